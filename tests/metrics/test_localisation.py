from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffaa.metrics.localisation import (
    THRESHOLDS,
    Square,
    best_iou,
    central_square,
    centre_gaussian,
    coldest_square,
    deletion_squares,
    energy_inside,
    hottest_square,
    iou_at,
    localisation,
    mean_of,
    paired_difference,
    pointing_game,
    square_means,
)

HEAT = np.array([[0.0, 1.0, 2.0], [0.0, 4.0, 3.0]])
RIGHT = np.array([[False, False, True], [False, False, True]])
FIGURES = (energy_inside, pointing_game, iou_at, best_iou)


def test_golden_numbers() -> None:
    # of 10 in all 2 + 3 lie right; the 4 does not; 2, 3 and 4 reach half of it, 3 and 4 three quarters
    assert energy_inside(HEAT, RIGHT) == pytest.approx(0.5)
    assert pointing_game(HEAT, RIGHT) == 0.0
    assert pointing_game(HEAT, ~RIGHT) == 1.0
    assert iou_at(HEAT, RIGHT) == pytest.approx(2 / 3)
    assert iou_at(HEAT, RIGHT, 0.75) == pytest.approx(1 / 3)
    assert iou_at(HEAT, RIGHT, 0.2) == pytest.approx(2 / 4)
    assert best_iou(HEAT, RIGHT, (0.2, 0.75)) == pytest.approx(1 / 2)
    assert best_iou(HEAT, RIGHT) == pytest.approx(2 / 3)
    assert best_iou(HEAT, RIGHT, ()) is None
    assert localisation(HEAT, RIGHT) == pytest.approx({"energy": 0.5, "pointing": 0.0, "iou": 2 / 3, "best_iou": 2 / 3})


def test_of_equal_maxima_the_share_inside_counts() -> None:
    heat = np.array([[5.0, 5.0, 5.0], [0.0, 5.0, 1.0]])
    assert pointing_game(heat, RIGHT) == 0.25


def test_a_map_that_is_the_mask_is_perfect() -> None:
    assert localisation(RIGHT.astype(np.float32), RIGHT) == dict.fromkeys(("energy", "pointing", "iou", "best_iou"), 1)


@pytest.mark.parametrize("figure", FIGURES)
def test_what_is_undefined_is_none(figure: Any) -> None:
    assert figure(HEAT, np.zeros_like(RIGHT)) is None
    assert figure(np.zeros_like(HEAT), RIGHT) is None
    assert figure(np.zeros((0, 0)), np.zeros((0, 0), bool)) is None


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    ("heat", "mask", "said"),
    [
        (HEAT, RIGHT[:1], "one shape"),
        (HEAT[0], RIGHT[0], "one shape"),
        (HEAT, RIGHT.astype(float), "bool mask"),
        (HEAT - 1, RIGHT, "nowhere negative"),
        (HEAT * np.nan, RIGHT, "finite"),
        (HEAT + np.inf, RIGHT, "finite"),
    ],
)
def test_what_is_no_map_or_mask_is_refused(figure: Any, heat: np.ndarray, mask: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        figure(heat, mask)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = height * width
    # tiny, huge and equal values; not only smooth ones
    heat = draw(st.lists(st.sampled_from([0.0, 5e-324, 1e-9, 0.5, 1.0, 3.0, 1e300]), min_size=size, max_size=size))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return np.array(heat).reshape(height, width), np.array(mask).reshape(height, width)


@settings(max_examples=150, deadline=None)
@given(maps_and_masks())
def test_properties_of_all_maps(given_pair: tuple[np.ndarray, np.ndarray]) -> None:
    heat, mask = given_pair
    found = localisation(heat, mask)
    if not heat.any() or not mask.any():
        assert set(found.values()) == {None}
        return
    assert all(value is not None and 0 <= value <= 1 for value in found.values())
    assert (found["best_iou"] or 0) >= (found["iou"] or 0) and 0.5 in THRESHOLDS
    assert localisation(heat[::-1, ::-1], mask[::-1, ::-1]) == pytest.approx(found)
    assert localisation(np.ones_like(heat), mask) == pytest.approx(dict.fromkeys(found, mask.mean()))
    assert energy_inside(heat, np.ones_like(mask)) == pytest.approx(1)
    if not mask.all():
        for figure in (energy_inside, pointing_game):
            assert (figure(heat, mask) or 0) + (figure(heat, ~mask) or 0) == pytest.approx(1)
    if heat[heat > 0].min() > 1e-300:
        assert localisation(heat / 4, mask) == pytest.approx(found)


@pytest.mark.parametrize("shape", [(5, 9), (4, 4), (1, 1)])
def test_the_centre_gaussian_knows_only_the_middle(shape: tuple[int, int]) -> None:
    heat = centre_gaussian(shape)
    assert heat.shape == shape and np.array_equal(heat, heat[::-1]) and np.array_equal(heat, heat[:, ::-1])
    assert heat.max() == heat[shape[0] // 2, shape[1] // 2] and heat.min() == heat[0, 0]


def test_the_centre_gaussian_in_numbers() -> None:
    heat = centre_gaussian((5, 9))
    assert heat[2, 4] == 1
    # one of five rows is 0.8 deviations of a quarter of the height, two of nine columns 8 / 9
    assert heat[3, 4] == pytest.approx(np.exp(-(0.8**2) / 2))
    assert heat[2, 6] == pytest.approx(np.exp(-((8 / 9) ** 2) / 2))
    assert heat[3, 6] == pytest.approx(heat[3, 4] * heat[2, 6])
    with pytest.raises(ValueError, match="above 0"):
        centre_gaussian((5, 9), 0)


def test_the_mean_is_that_of_the_defined() -> None:
    assert mean_of([1.0, None, 2.0]) == 1.5
    assert mean_of([None]) is mean_of([]) is None


def test_pairs_with_an_undefined_value_are_left_out() -> None:
    found = paired_difference([1.0, None, 0.5, 0.75], [0.5, 0.1, None, 0.75])
    assert (found["n"], found["difference"]) == (2, 0.25)
    # of two pairs a resample's mean is 0, 0.25 or 0.5
    assert found["difference_interval"] == (0.0, 0.5)


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    assert paired_difference([0.5], [0.25]) == {"n": 1, "difference": 0.25, "difference_interval": None}
    assert paired_difference([None], [1.0]) == {"n": 0, "difference": None, "difference_interval": None}


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="finite"):
        paired_difference([0.1, float("nan")], [0.1, 0.1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20), st.randoms())
def test_properties_of_differences(pairs: list[tuple[float, float]], random: Any) -> None:
    def difference(of: list[tuple[float, float]], seed: int = 0) -> dict[str, Any]:
        return paired_difference([a for a, _ in of], [b for _, b in of], resamples=200, seed=seed)

    found = difference(pairs)
    low, high = found["difference_interval"]
    assert min(a - b for a, b in pairs) - 1e-12 <= low <= high <= max(a - b for a, b in pairs) + 1e-12
    shuffled = random.sample(pairs, len(pairs))
    assert difference(shuffled) == found
    same = difference([(a, a) for a, _ in pairs])
    assert (same["difference"], same["difference_interval"]) == (0.0, (0.0, 0.0))


def test_the_interval_covers_and_uses_the_pairing() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        picture = rng.normal(0, 10, 40)  # what differs between pictures is far more than between the two series
        first, second = picture + rng.normal(0.5, 1, 40), picture
        low, high = paired_difference(first.tolist(), second.tolist(), resamples=400, seed=seed)["difference_interval"]
        assert high - low < 1.2
        hits += low <= 0.5 <= high
    assert 0.88 < hits / 200 <= 0.99


def test_another_seed_resamples_otherwise() -> None:
    first, second = np.random.default_rng(1).random((2, 30)).tolist()
    assert paired_difference(first, second) == paired_difference(first, second)
    assert paired_difference(first, second) != paired_difference(first, second, seed=1)


def test_ten_thousand_pictures_take_seconds() -> None:
    first, second = np.random.default_rng(1).random((2, 10_000)).tolist()
    start = time.process_time()
    assert paired_difference(first, second)["n"] == 10_000
    assert time.process_time() - start < 10


def test_square_means_in_numbers() -> None:
    assert square_means(HEAT, 2).tolist() == [[1.25, 2.5]]
    assert square_means(HEAT, 1).tolist() == HEAT.tolist()
    for side in (0, 3):
        with pytest.raises(ValueError, match="fits into"):
            square_means(HEAT, side)


def test_the_hottest_square_is_where_the_mean_is_greatest() -> None:
    heat = np.zeros((10, 12))
    heat[6:9, 7:10] = 2
    assert hottest_square(heat, 3) == Square(6, 7, 3)
    assert heat[Square(6, 7, 3).pixels].tolist() == [[2, 2, 2]] * 3
    assert hottest_square(heat * 1e-20, 3) == Square(6, 7, 3)
    assert hottest_square(np.ones((4, 4)), 2) == Square(0, 0, 2)
    assert hottest_square(np.zeros((4, 4)), 2) is None
    with pytest.raises(ValueError, match="fits into"):
        hottest_square(np.zeros((4, 4)), 5)


def test_the_coldest_square_lies_in_the_region_and_apart() -> None:
    heat = np.full((8, 12), 0.5)
    heat[:, :4] = 0  # colder, but outside
    heat[4:, 8:] = 0.25
    region = np.zeros((8, 12), bool)
    region[:, 4:] = True
    assert coldest_square(heat, region, Square(0, 0, 4)) == Square(4, 8, 4)
    assert coldest_square(heat, region, Square(3, 7, 4)) == Square(0, 3, 4), "a quarter may lie outside"
    assert coldest_square(heat, region, Square(3, 7, 4), inside=1) is None
    # all alike: the first place that lies in the region whole
    assert coldest_square(np.zeros((8, 12)), region, Square(0, 4, 4)) == Square(0, 8, 4)
    assert coldest_square(heat, np.zeros((8, 12), bool), Square(0, 0, 4)) is None
    with pytest.raises(ValueError, match="one shape"):
        coldest_square(heat, region.T, Square(0, 0, 4))


def test_the_central_square_stays_in_the_picture() -> None:
    region = np.zeros((9, 9), bool)
    region[2:7, 4:9] = True
    assert central_square(region, 3) == Square(3, 5, 3)
    region[:] = False
    region[0, 8] = True
    assert central_square(region, 3) == Square(0, 6, 3)
    assert central_square(np.zeros((9, 9), bool), 3) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.25))
def test_deletion_squares_are_alike_in_size_and_do_not_meet(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    heat, region = rng.random((20, 30)), np.zeros((20, 30), bool)
    region[rng.integers(0, 8) :, rng.integers(0, 15) :] = True
    squares = deletion_squares(heat, region, share)
    if squares is None:
        return
    assert list(squares) == ["hot", "cold", "middle"]
    covered = np.zeros((20, 30), int)
    for name in ("hot", "cold"):
        covered[squares[name].pixels] += 1
    side = round((share * 600) ** 0.5)
    assert {square.side for square in squares.values()} == {side}
    assert covered.max() == 1 and covered.sum() == 2 * side**2
    hot, cold = (heat[squares[name].pixels].mean() for name in ("hot", "cold"))
    assert hot >= cold and region[squares["cold"].pixels].mean() >= 0.75 - 1e-9


def test_without_a_face_or_heat_nothing_is_hidden() -> None:
    region = np.ones((20, 20), bool)
    assert deletion_squares(np.zeros((20, 20)), region, 0.04) is None
    assert deletion_squares(np.ones((20, 20)), ~region, 0.04) is None
    assert deletion_squares(np.ones((20, 20)), region, 0.81) is None
