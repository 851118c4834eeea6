import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffaa.data import degradations
from ffaa.data.degradations import RGB


def face_like(height: int = 40, width: int = 56) -> RGB:
    """A smooth picture with a red left and a blue right half, so that swapped channels show."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([200 - 150 * (x > width / 2), 80 + y, 50 + 150 * (x > width / 2)], axis=-1)
    return picture.astype(np.uint8)


def noise(height: int = 40, width: int = 56) -> RGB:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


ALL = {
    "jpeg": lambda x: degradations.jpeg(x, 75),
    "noise": lambda x: degradations.gaussian_noise(x, 5, np.random.default_rng(1)),
    "blur": lambda x: degradations.gaussian_blur(x, 1.5),
    "no blur": lambda x: degradations.gaussian_blur(x, 0),
    "motion": lambda x: degradations.motion_blur(x, 5, 30),
    "downscale": lambda x: degradations.downscale(x, 0.5),
    "hsv": lambda x: degradations.hsv_shift(x, 5, 10, -10),
    "pca": lambda x: degradations.fancy_pca(x, np.array([0.1, -0.1, 0.1])),
    "mids": lambda x: degradations.augment_for_mids(x, np.random.default_rng(2)),
}


@pytest.mark.parametrize("name", ALL)
def test_same_size_new_array_input_untouched_and_repeatable(name: str) -> None:
    for picture in (face_like(), noise(17, 9), np.full((8, 8, 3), 128, np.uint8)):
        before = picture.copy()
        first, second = ALL[name](picture), ALL[name](picture)
        assert first.shape == picture.shape and first.dtype == np.uint8
        assert np.array_equal(picture, before) and np.array_equal(first, second)


@pytest.mark.parametrize("name", [name for name in ALL if name != "mids"])
def test_channels_keep_their_places(name: str) -> None:
    changed = ALL[name](face_like()).astype(float)
    assert changed[:, :24, 0].mean() > changed[:, :24, 2].mean() + 50
    assert changed[:, 32:, 2].mean() > changed[:, 32:, 0].mean() + 50


def test_jpeg_loses_more_at_lower_quality() -> None:
    errors = [np.abs(degradations.jpeg(noise(), q).astype(int) - noise()).mean() for q in (95, 60, 20)]
    assert errors[0] < errors[1] < errors[2]


def test_blurs_and_downscale_keep_the_mean_and_cut_the_variance() -> None:
    picture = noise(64, 64)
    for name in ("blur", "motion", "downscale"):
        changed = ALL[name](picture)
        assert changed.mean() == pytest.approx(picture.mean(), abs=2)
        assert changed.std() < 0.8 * picture.std()
    assert np.array_equal(ALL["no blur"](picture), picture)


def test_motion_blur_smears_along_its_angle_only() -> None:
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    across, up = degradations.motion_blur(point, 5, 0)[..., 0], degradations.motion_blur(point, 5, 90)[..., 0]
    assert set(map(tuple, np.argwhere(across))) == {(10, x) for x in range(8, 13)}
    assert np.array_equal(up, across.T)


def test_noise_has_the_stated_strength() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    changed = degradations.gaussian_noise(grey, 6.0, np.random.default_rng(0)).astype(float)
    assert changed.std() == pytest.approx(6.0, rel=0.03)
    assert changed.mean() == pytest.approx(128, abs=0.1)


def test_hue_turns_full_circle_and_clips_the_rest() -> None:
    red = np.tile(np.array([255, 0, 0], np.uint8), (4, 4, 1))
    assert np.array_equal(degradations.hsv_shift(red, 60, 0, 0)[0, 0], [0, 255, 0])
    assert np.array_equal(degradations.hsv_shift(red, -60, 0, 0)[0, 0], [0, 0, 255])
    assert np.array_equal(degradations.hsv_shift(red, 180, 500, 500), red)


def test_fancy_pca_adds_one_colour_along_the_main_axis() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(60, 190, (50, 50, 1)), 3, axis=2).astype(np.uint8)
    shift = degradations.fancy_pca(grey, np.array([2.0, 0, 0])).astype(int) - grey
    assert np.unique(shift).size == 1 and shift[0, 0, 0] > 0
    assert np.array_equal(degradations.fancy_pca(grey, np.zeros(3)), grey)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_augmentation_is_a_function_of_the_generator_and_stays_near(seed: int) -> None:
    first, second = (degradations.augment_for_mids(face_like(), np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first.astype(int) - face_like()).mean() < 60


def test_augmentation_probabilities() -> None:
    picture = noise(16, 16)
    same = [
        np.array_equal(degradations.augment_for_mids(picture, np.random.default_rng(s)), picture) for s in range(1000)
    ]
    expected = 0.5 * 0.8**3 * 0.3
    assert np.mean(same) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_impossible_strengths(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        degradations.downscale(noise(), factor)
    with pytest.raises(ValueError, match="odd"):
        degradations.motion_blur(noise(), 4, 0)
