from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ffaa.metrics.localisation import curve_area, hottest_first
from ffaa.reporting.deletion import deletion_insertion


def test_hottest_first_by_hand() -> None:
    heat = np.array([[0.1, 0.4], [0.3, 0.2]])
    masks = hottest_first(heat, 4)
    assert masks is not None
    assert masks.reshape(5, 4).astype(int).tolist() == [
        [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1],
    ]  # fmt: skip


def test_equal_pixels_are_spread_and_repeatable() -> None:
    masks, again = hottest_first(np.ones((20, 20)), 2), hottest_first(np.ones((20, 20)), 2)
    assert masks is not None and again is not None and np.array_equal(masks, again)
    assert masks[1].sum() == 200 and 70 < masks[1][:10].sum() < 130


def test_no_map_and_bad_maps() -> None:
    assert hottest_first(np.zeros((4, 4)), 3) is None
    with pytest.raises(ValueError, match="at least 1"):
        hottest_first(np.ones((4, 4)), 0)
    with pytest.raises(ValueError, match="nowhere negative"):
        hottest_first(-np.ones((4, 4)), 2)


def test_areas_by_hand_and_by_numpy() -> None:
    assert curve_area([]) is None and curve_area([0.3]) == 0.3
    assert curve_area([1.0, 0.0]) == 0.5 and curve_area([1.0, 0.5, 0.0, 0.0]) == pytest.approx(1 / 3)
    values = np.random.default_rng(0).random(9)
    assert curve_area(list(values)) == pytest.approx(np.trapezoid(values, np.linspace(0, 1, 9)))


def test_a_map_of_what_decides_beats_one_of_what_does_not() -> None:
    """The judge looks at a checkered corner alone, whose contrast a blur takes away."""
    pixels = np.full((32, 32, 3), 128, np.uint8)
    pixels[:8, :8] = 255 * (np.indices((8, 8)).sum(axis=0) % 2)[..., None]
    asked = []

    def judge(images: Sequence[Image.Image]) -> list[float]:
        asked.append(len(images))
        return [float(np.array(image, float)[:8, :8].std() / 127.5) for image in images]

    right, wrong = np.zeros((32, 32)), np.zeros((32, 32))
    right[:8, :8] = wrong[-8:, -8:] = 1.0
    found = deletion_insertion(Image.fromarray(pixels), {"right": right, "wrong": wrong, "none": 0 * right}, judge)
    assert set(found) == {"right", "wrong"} and asked == [2, 14, 14]
    assert len(found["right"]["deletion"]) == len(found["right"]["insertion"]) == 9
    assert found["right"]["deletion"][0] == found["right"]["insertion"][-1] == pytest.approx(1.0, abs=0.01)
    assert found["right"]["deletion_area"] < 0.2 < 0.5 < found["wrong"]["deletion_area"]
    assert found["right"]["insertion_area"] > 0.8 > found["wrong"]["insertion_area"]
