"""The face detector and the crop rule."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffaa.data.faces import CROP_MARGIN, FaceDetector, NoFaceError, crop_box, crop_face, pixel_square
from ffaa.data.images import open_image
from ffaa.types import Box, InputError

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"
EYES = {  # the viewer's left and right eye, read off the pictures by hand
    "openpeople_p007.jpg": ((216, 202), (301, 201)),
    "openpeople_p009_selfie.jpg": ((213, 244), (314, 227)),
    "orl_s01_1.png": ((25, 52), (62, 51)),
    "orl_s08_1.png": ((24, 48), (63, 51)),
}


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.mark.parametrize("name", EYES)
def test_sample_pictures_have_one_face_with_eyes_where_they_are(detector: FaceDetector, name: str) -> None:
    (face,) = detector.detect(open_image(SAMPLES / name))
    assert face.points.shape == (5, 2) and face.points.dtype == np.float32
    between = math.dist(*EYES[name])
    assert np.linalg.norm(face.points[:2] - np.array(EYES[name]), axis=1).max() < 0.1 * between
    assert 0.9 <= face.confidence <= 1
    assert all(isinstance(v, float) for v in (face.box.left, face.box.top, face.box.right, face.box.bottom))
    x, y = face.points.mean(axis=0)
    assert face.box.left < x < face.box.right and face.box.top < y < face.box.bottom


def test_detection_is_deterministic(detector: FaceDetector) -> None:
    image = open_image(SAMPLES / "openpeople_p007.jpg")
    first, again, other = detector.detect(image)[0], detector.detect(image)[0], FaceDetector().detect(image)[0]
    assert first.box == again.box == other.box
    assert np.array_equal(first.points, again.points) and np.array_equal(first.points, other.points)


def test_faces_are_sorted_by_size_and_boxes_are_in_the_pictures_own_pixels(detector: FaceDetector) -> None:
    face = open_image(SAMPLES / "openpeople_p007.jpg")
    canvas = Image.new("RGB", (2400, 1200), "gray")
    canvas.paste(face.resize((300, 300)), (50, 100))
    canvas.paste(face.resize((1000, 1000)), (1200, 100))
    large, small = detector.detect(canvas)
    assert large.box.width > 2.5 * small.box.width
    for found, corner, scale in ((large, (1200, 100), 1000 / 512), (small, (50, 100), 300 / 512)):
        expected = np.array(EYES["openpeople_p007.jpg"]) * scale + corner
        assert np.linalg.norm(found.points[:2] - expected, axis=1).max() < 10 * scale
    assert detector.largest(canvas).box == large.box


@pytest.mark.parametrize("side", [48, 64])
def test_thumbnails(detector: FaceDetector, side: int) -> None:
    image = open_image(SAMPLES / "openpeople_p007.jpg").crop((60, 0, 450, 390)).resize((side, side))
    (face,) = detector.detect(image)
    assert 0.3 * side < face.box.width < 0.8 * side


def test_a_box_may_leave_the_picture(detector: FaceDetector) -> None:
    image = open_image(SAMPLES / "openpeople_p007.jpg").crop((190, 120, 512, 512))
    (face,) = detector.detect(image)
    assert face.box.left < 0
    assert crop_face(image, face.box).size[0] > face.box.height


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (5000, 4), (64, 64), (200, 120)])
def test_no_face(detector: FaceDetector, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    for image in (Image.fromarray(noise), Image.new("RGB", size, "gray")):
        assert detector.detect(image) == []
        with pytest.raises(NoFaceError, match="no face"):
            detector.largest(image)


coordinates = st.floats(-60, 160, allow_nan=False)
lengths = st.floats(0.5, 150, allow_nan=False)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), coordinates, coordinates, lengths, lengths)


@given(boxes, st.floats(0, 2))
def test_crop_box_is_the_square_of_the_rule(box: Box, margin: float) -> None:
    square = crop_box(box, margin)
    side = (1 + margin) * max(box.width, box.height)
    assert square.width == pytest.approx(side) and square.height == pytest.approx(side)
    assert square.left + square.right == pytest.approx(box.left + box.right, abs=1e-6)
    assert square.top + square.bottom == pytest.approx(box.top + box.bottom, abs=1e-6)
    assert square.left <= box.left + 1e-6 and square.right >= box.right - 1e-6
    assert square.top <= box.top + 1e-6 and square.bottom >= box.bottom - 1e-6


@settings(max_examples=150, deadline=None)
@given(boxes, st.floats(0, 1), st.integers(1, 90), st.integers(1, 90), st.none() | st.integers(1, 64))
def test_crop_is_square_and_holds_the_pixels_below_it(
    box: Box, margin: float, width: int, height: int, size: int | None
) -> None:
    pixels = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    left, top, side = pixel_square(crop_box(box, margin))
    image = Image.fromarray(pixels)
    if left >= width or top >= height or left + side <= 0 or top + side <= 0:
        with pytest.raises(InputError, match="outside the picture"):
            crop_face(image, box, margin, size)
        return
    crop = crop_face(image, box, margin, size)
    assert crop.size == (size or side, size or side) and crop.mode == "RGB"
    if size is None:
        before = (max(0, -left), max(0, -top))
        padded = np.pad(
            pixels,
            ((before[1], max(0, top + side - height)), (before[0], max(0, left + side - width)), (0, 0)),
            mode="reflect",
        )
        expected = padded[top + before[1] :, left + before[0] :][:side, :side]
        assert np.array_equal(np.asarray(crop), expected)


def test_golden_crop() -> None:
    assert CROP_MARGIN == 0.3
    assert crop_box(Box(100, 50, 200, 170)) == Box(72, 32, 228, 188)
    image = Image.fromarray(np.arange(10, dtype=np.uint8)[None].repeat(10, axis=0))
    assert np.asarray(crop_face(image, Box(-4, 0, 4, 8), 0))[0].tolist() == [4, 3, 2, 1, 0, 1, 2, 3]
    assert np.asarray(crop_face(image, Box(6, 0, 14, 8), 0))[0].tolist() == [6, 7, 8, 9, 8, 7, 6, 5]


def test_bad_boxes_and_margins() -> None:
    image = Image.new("RGB", (50, 50))
    inf, nan = math.inf, math.nan
    for box in (Box(5, 5, 5, 9), Box(9, 5, 5, 9), Box(nan, 0, 5, 5), Box(0, 0, inf, 5), Box(60, 60, 70, 70)):
        with pytest.raises(InputError, match="box"):
            crop_face(image, box)
    for margin in (-0.1, inf, nan):
        with pytest.raises(InputError, match="margin"):
            crop_face(image, Box(10, 10, 20, 20), margin)
    with pytest.raises(InputError, match="at most"):
        crop_face(image, Box(0, 0, 1e6, 1e6))
