"""What is estimated of a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ffaa.data.images import open_image
from ffaa.evaluation.attribute_estimator import AttributeEstimator, skin_tone

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"


def points_on(size: int) -> np.ndarray:
    """Landmarks of which the cheeks cover much of a square picture."""
    points = np.full((68, 2), size / 2, np.float32)
    for at, place in {
        1: (0.1, 0.4),
        2: (0.1, 0.5),
        3: (0.15, 0.6),
        4: (0.2, 0.7),
        36: (0.2, 0.4),
        41: (0.3, 0.4),
    }.items():
        points[at] = np.array(place) * size
    for at, mirrored in {15: 1, 14: 2, 13: 3, 12: 4, 45: 36, 46: 41}.items():
        points[at] = (size - points[mirrored][0], points[mirrored][1])
    return points


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((241, 194, 167), 54.0),  # by hand: sRGB -> CIELAB (D65) 82.4, 14.6, 20.2 -> arctan(32.4 / 20.2) = 58
        ((141, 85, 36), -17.9),
        ((60, 46, 40), -77.0),
    ],
)
def test_the_angle_is_that_of_the_formula(rgb: tuple[int, int, int], expected: float) -> None:
    lightness, _, yellow = lab(rgb)
    by_hand = float(np.degrees(np.arctan((lightness - 50) / yellow)))
    found = skin_tone(np.full((100, 100, 3), rgb, np.uint8), points_on(100))
    assert found == pytest.approx(by_hand, abs=0.5)
    assert found == pytest.approx(expected, abs=6)


def lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """CIELAB under D65 from the definitions (IEC 61966-2-1, CIE 15)."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (value / 255 for value in rgb)]
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    white = (0.95047, 1.0, 1.08883)
    x, y, z = (
        cube if cube > 0.008856 else 0
        for cube in (
            sum(a * b for a, b in zip(row, linear, strict=True)) / w for row, w in zip(matrix, white, strict=True)
        )
    )
    fx, fy, fz = (value ** (1 / 3) for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def test_grey_skin_and_skin_in_a_cold_light_have_no_tone() -> None:
    assert skin_tone(np.full((100, 100, 3), 150, np.uint8), points_on(100)) is None
    for bluish in ((180, 190, 220), (20, 30, 60)):
        assert skin_tone(np.full((100, 100, 3), bluish, np.uint8), points_on(100)) is None


def test_a_darker_print_of_a_face_is_a_darker_tone_and_the_same_person() -> None:
    estimator = AttributeEstimator()
    picture = open_image(SAMPLES / "openpeople_p007.jpg")
    found, darker = estimator.estimate(picture), estimator.estimate(ImageEnhance.Brightness(picture).enhance(0.6))
    assert found is not None and darker is not None
    assert found.tone is not None and darker.tone is not None and darker.tone < found.tone - 10
    assert found.groups()["sex"] == darker.groups()["sex"] == "male"
    grey = estimator.estimate(open_image(SAMPLES / "orl_s01_1.png"))
    assert grey is not None and grey.tone is None and set(grey.groups()) == {"sex", "age"}


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3000, 40)])
def test_a_picture_without_a_face_has_no_estimates(size: tuple[int, int]) -> None:
    assert AttributeEstimator().estimate(Image.new("RGB", size, (200, 150, 120))) is None
