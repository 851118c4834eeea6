"""Pictures of the assets, by person."""

from __future__ import annotations

import numpy as np
import pytest

from ffaa.forge import library


def _sheet(side: int = 600) -> np.ndarray:
    """Two rows of four dark panels in white frames on a light grey ground, with a caption under each."""
    sheet = np.full((side, side, 3), 235, np.uint8)
    wide, tall = side // 5, side // 5
    for row in range(2):
        for column in range(4):
            top, left = 40 + row * (tall + 60), 20 + column * (wide + 20)
            sheet[top : top + tall, left : left + wide] = 20 * (1 + 4 * row + column)
            sheet[top + tall + 10 : top + tall + 16, left + 20 : left + 50] = 0
    return sheet


def test_panels_of_a_sheet_are_read_row_by_row_without_their_captions() -> None:
    panels = library._panels(_sheet())
    assert [int(panel.mean()) for panel in panels] == [20 * (1 + index) for index in range(8)]
    assert all(panel.min() == panel.max() for panel in panels), "no frame is left in"


def test_large_photographs_are_brought_to_working_size_and_small_ones_left() -> None:
    large = library._reduced(np.zeros((1000, 2000, 3), np.uint8))
    assert large.shape == (320, 640, 3)
    small = np.zeros((100, 90, 3), np.uint8)
    assert library._reduced(small) is small


@pytest.mark.mini
def test_the_orl_asset_has_ten_pictures_of_forty_people() -> None:
    pictures = list(library._orl())
    assert len(pictures) == 400 and len({person for _, person, _ in pictures}) == 40
    assert pictures[0][0] == "orl/s1/1" and pictures[0][2].shape == (112, 92, 3)


@pytest.mark.mini
def test_openpeople_has_portraits_selfies_and_panels_of_ten_people() -> None:
    names: dict[str, list[str]] = {}
    for name, person, pixels in library._openpeople():
        names.setdefault(person, []).append(name)
        assert max(pixels.shape) <= 640 or "sheet" in name
    assert len(names) == 10
    for person, pictures in names.items():
        assert sum("sheet" in name for name in pictures) == 16, person
        assert sum("portrait" in name or "selfie" in name for name in pictures) == 2, person
