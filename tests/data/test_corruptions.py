from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from ffaa.data.corruptions import CORRUPTIONS, grey_blocks, parse_chain, pixelate, scale_chroma, scale_values
from ffaa.types import InputError
from tests.data.test_degradations import face_like, noise


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(40, 56), (17, 9), (6, 6)])
def test_every_level_keeps_the_size_and_is_repeatable(name: str, shape: tuple[int, int]) -> None:
    image = picture(noise(*shape))
    before = np.array(image)
    for level in range(1, 6):
        first, second = (np.array(parse_chain(f"{name}@{level}")(image)) for _ in range(2))
        assert first.shape == before.shape and first.dtype == np.uint8
        assert np.array_equal(first, second) and np.array_equal(before, np.array(image))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_is_worse_than_the_one_before(name: str) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    pixels = cv2.GaussianBlur(rows, (0, 0), 2.0) // 2 * 3
    errors = [
        np.abs(np.array(parse_chain(f"{name}@{level}")(picture(pixels))).astype(float) - pixels).mean()
        for level in range(1, 6)
    ]
    assert errors == sorted(errors) and errors[0] > 0 and errors[4] > errors[0]


def test_no_colour_is_grey_and_grey_stays() -> None:
    grey = scale_chroma(face_like(), 0.0).astype(int)
    assert np.abs(grey - grey.mean(axis=-1, keepdims=True)).max() <= 1
    flat = np.full((4, 4, 3), 90, np.uint8)
    assert np.abs(scale_chroma(flat, 0.4).astype(int) - 90).max() <= 1
    assert scale_values(flat, 0.5).tolist() == np.full((4, 4, 3), 45).tolist()


def test_channels_keep_their_places() -> None:
    for name in ("saturation:0.5", "noise@1", "blur@1", "jpeg@1", "resize@1", "pixelate@1", "contrast@1"):
        changed = np.array(parse_chain(name)(picture(face_like()))).astype(float)
        assert changed[:, :24, 0].mean() > changed[:, :24, 2].mean() + 25


def test_small_crops_get_their_blocks() -> None:
    """The released code rounds their number down to none below 256 pixels."""
    changed = grey_blocks(np.zeros((100, 100, 3), np.uint8), 16, np.random.default_rng(0))
    assert 8 * 8 * 8 < (changed == 128).all(axis=-1).sum() <= 16 * 64


def test_pixelate_by_hand() -> None:
    stripes = np.tile(np.array([[0], [200]], np.uint8), (4, 8))[..., None].repeat(3, axis=-1)
    assert np.abs(pixelate(stripes, 2).astype(int) - 100).max() <= 1


def test_noise_has_the_variance_it_says() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    noisy = np.array(parse_chain("noise:0.001")(picture(flat))).astype(float)
    luma = noisy @ [0.299, 0.587, 0.114]
    assert luma.std() == pytest.approx(0.001**0.5 * 255 * 255 / 219, rel=0.05)


def test_what_is_random_depends_on_seed_and_picture() -> None:
    one, other = picture(noise(32, 32)), picture(face_like(32, 32))
    same = [np.array(parse_chain("noise@1", seed)(one)) for seed in (0, 0, 1)]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])
    added = [np.array(parse_chain("noise@1")(image)).astype(int) - np.array(image) for image in (one, other)]
    assert not np.array_equal(added[0], added[1])


def test_chains_and_spellings() -> None:
    assert parse_chain("blur@1").text == parse_chain(" Blur:7 ").text == "blur:7"
    chain = parse_chain("resize:0.5+jpeg@3")
    assert chain.text == "resize:0.5+jpeg:50" and chain(picture(noise(20, 20))).size == (20, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg:50", "no corruption 'jpg'.*did you mean jpeg"),
        ("jpeg", "write NAME:VALUE"),
        ("", "write NAME:VALUE"),
        ("jpeg:50+", "write NAME:VALUE"),
        ("jpeg:-5", "write NAME:VALUE"),
        ("jpeg:101", "quality is a whole number from 1 to 100"),
        ("jpeg:50.5", "quality is a whole number"),
        ("blur@6", "levels are 1 to 5"),
        ("blur@0", "levels are 1 to 5"),
        ("blur:8", "odd number"),
        ("resize:2", "from 0.01 to 1"),
        ("blocks:0", "from 1 to"),
    ],
)
def test_bad_spellings_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_chain(text)
    assert "\n" not in str(error.value)
