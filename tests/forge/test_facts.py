"""Measurements on finished pictures, against pictures whose measures are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.forge.camera import Camera, Shot, shoot
from ffaa.forge.faces import SourceFace
from ffaa.forge.facts import Facts, level, measure
from ffaa.forge.regions import face_mask


@pytest.fixture
def shot(colour_face: SourceFace) -> Shot:
    return shoot(colour_face, None, Camera(flip_share=0.0), np.random.default_rng(0))


def _measured(shot: Shot, pixels: np.ndarray) -> Facts:
    return measure(Shot(b"", np.ascontiguousarray(pixels, np.uint8), shot.mask, shot.points))


def test_a_flat_grey_picture(shot: Shot) -> None:
    facts = _measured(shot, np.full_like(shot.pixels, 77))
    assert facts.brightness == pytest.approx(77) and facts.background == pytest.approx(77)
    assert facts.sharpness == 0 and facts.saturation == 0 and facts.tone_difference == pytest.approx(0, abs=0.01)


def test_each_measure_sees_its_own_change(shot: Shot) -> None:
    before = measure(shot)
    darker = _measured(shot, shot.pixels // 2)
    assert darker.brightness == pytest.approx(before.brightness / 2, rel=0.02)
    blurred = _measured(shot, cv2.GaussianBlur(shot.pixels, (0, 0), 2))
    assert blurred.sharpness < 0.3 * before.sharpness and blurred.brightness == pytest.approx(
        before.brightness, rel=0.02
    )
    grey = _measured(shot, np.repeat(cv2.cvtColor(shot.pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2))
    assert grey.saturation == 0 < before.saturation


def test_the_background_is_read_from_the_upper_edges_only(shot: Shot) -> None:
    pixels = np.zeros_like(shot.pixels)
    pixels[:, 30:-30] = 255
    pixels[100:] = 255
    assert _measured(shot, pixels).background == 0


def test_face_and_surroundings_are_compared(shot: Shot) -> None:
    size = shot.pixels.shape[0]
    inside = face_mask(shot.points, size, size) > 0
    before = measure(shot)
    blurred = np.where(inside[..., None], cv2.GaussianBlur(shot.pixels, (0, 0), 2), shot.pixels)
    assert _measured(shot, blurred).sharpness_ratio < 0.5 * before.sharpness_ratio
    split = np.where(inside[..., None], np.array([200, 120, 100]), np.array([60, 60, 60]))
    assert _measured(shot, split).tone_difference > 40


def test_a_mirrored_face_is_turned_the_other_way(colour_face: SourceFace) -> None:
    straight, mirrored = (
        measure(shoot(colour_face, None, Camera(flip_share=flip), np.random.default_rng(0))) for flip in (0.0, 1.0)
    )
    assert mirrored.yaw == pytest.approx(-straight.yaw, abs=1e-3)
    assert mirrored.mouth == pytest.approx(straight.mouth, abs=1e-3)
    assert mirrored.brightness == pytest.approx(straight.brightness, abs=1)


def test_turning_and_opening_are_read_from_landmarks(shot: Shot) -> None:
    turned = Shot(b"", shot.pixels, shot.mask, shot.points.copy())
    turned.points[27:36, 0] -= 25
    assert measure(turned).yaw < measure(shot).yaw - 0.1, "the nose moved to the picture's left"
    opened = Shot(b"", shot.pixels, shot.mask, shot.points.copy())
    opened.points[66, 1] += 20
    assert measure(opened).mouth > measure(shot).mouth + 0.1


@given(st.floats(-1e3, 1e3), st.tuples(st.floats(-100, 100), st.floats(-100, 100)).map(sorted))
def test_levels_are_low_middle_high(value: float, limits: list[float]) -> None:
    low, high = limits
    assert level(value, (low, high)) == (0 if value <= low else 1 if value <= high else 2)


def test_facts_are_written_with_four_digits(shot: Shot) -> None:
    facts = measure(shot)
    written = facts.to_json()
    assert written.keys() == set(Facts.__dataclass_fields__)
    assert all(value == round(value, 4) == round(getattr(facts, name), 4) for name, value in written.items())
