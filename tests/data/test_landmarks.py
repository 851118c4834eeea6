"""The committed 68-point network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageOps

from ffaa.data.faces import Face, FaceDetector
from ffaa.data.images import open_image
from ffaa.data.landmarks import MOUTH, WEIGHTS, Landmarker, LandmarkNet, points_box
from ffaa.types import Box, InputError

JAW, BROWS, EYES = slice(0, 17), slice(17, 27), slice(36, 48)

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"
NAMES = ["openpeople_p007.jpg", "openpeople_p009_selfie.jpg", "orl_s01_1.png", "orl_s08_1.png"]

Faces = dict[str, tuple[np.ndarray, Face]]


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker()


@pytest.fixture(scope="module")
def faces() -> Faces:
    detector = FaceDetector()
    images = {name: open_image(SAMPLES / name) for name in NAMES}
    return {name: (np.asarray(image), detector.largest(image)) for name, image in images.items()}


@pytest.mark.parametrize("name", NAMES)
def test_points_agree_with_the_detectors_five(landmarker: Landmarker, faces: Faces, name: str) -> None:
    image, face = faces[name]
    points = landmarker.points(image, face.box)
    assert points.shape == (68, 2) and points.dtype == np.float32
    five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    between = np.linalg.norm(five[1] - five[0])
    errors = np.linalg.norm(five - face.points, axis=1) / between
    assert errors[:2].max() < 0.15 and errors.max() < 0.2
    assert points[BROWS, 1].mean() < points[EYES, 1].mean() < points[30, 1] < points[MOUTH, 1].mean() < points[8, 1]
    assert points[0, 0] < points[36, 0] < points[45, 0] < points[16, 0]
    assert points[JAW, 1].argmax() in (7, 8, 9)


def test_golden_points(landmarker: Landmarker, faces: Faces) -> None:
    image, face = faces["openpeople_p007.jpg"]
    points = landmarker.points(image, face.box)
    expected = [[259.9, 355.3], [257.4, 250.1], [199.8, 200.8], [312.6, 200.5], [223.9, 294.6], [293.0, 294.5]]
    assert np.abs(points[[8, 30, 36, 45, 48, 54]] - expected).max() < 1.5


def test_a_batch_gives_what_single_faces_give(landmarker: Landmarker, faces: Faces) -> None:
    images, found = zip(*faces.values(), strict=True)
    together = landmarker.points_batch(images, [face.box for face in found])
    assert together.shape == (4, 68, 2)
    for points, image, face in zip(together, images, found, strict=True):
        assert np.allclose(points, landmarker.points(image, face.box), atol=0.02)
    assert landmarker.points_batch([], []).shape == (0, 68, 2)


def test_the_box_may_be_off_by_a_tenth(landmarker: Landmarker, faces: Faces) -> None:
    image, face = faces["openpeople_p007.jpg"]
    points, box = landmarker.points(image, face.box), face.box
    shift = 0.1 * box.width
    moved = landmarker.points(image, Box(box.left + shift, box.top - shift, box.right + shift, box.bottom - shift))
    between = np.linalg.norm(points[36] - points[45])
    assert np.linalg.norm(moved - points, axis=1).mean() < 0.05 * between


def test_points_of_the_mirror_image_are_mirrored(landmarker: Landmarker, faces: Faces) -> None:
    image, face = faces["openpeople_p007.jpg"]
    width = image.shape[1]
    mirror = np.asarray(ImageOps.mirror(open_image(SAMPLES / "openpeople_p007.jpg")))
    box = Box(width - face.box.right, face.box.top, width - face.box.left, face.box.bottom)
    points, mirrored = landmarker.points(image, face.box), landmarker.points(mirror, box)
    between = np.linalg.norm(points[36] - points[45])
    assert np.linalg.norm(points[8] - [width - 1 - mirrored[8][0], mirrored[8][1]]) < 0.08 * between
    assert np.linalg.norm(points[36] - [width - 1 - mirrored[45][0], mirrored[45][1]]) < 0.08 * between


def test_a_face_at_the_border(landmarker: Landmarker, faces: Faces) -> None:
    image, face = faces["openpeople_p007.jpg"]
    cut = image[:, 200:]
    box = Box(face.box.left - 200, face.box.top, face.box.right - 200, face.box.bottom)
    assert np.isfinite(landmarker.points(cut, box)).all()
    with pytest.raises(InputError, match="outside"):
        landmarker.points(cut, Box(9000, 0, 9100, 100))


def test_the_network_has_the_weights_of_the_file() -> None:
    network = LandmarkNet()
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == (WEIGHTS / "face_landmark_68_model.bin").stat().st_size == 356_840
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 68, 2)


def test_missing_or_short_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        Landmarker(weights=tmp_path)
    for file in WEIGHTS.glob("face_landmark_68_model*"):
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data + b"\0" if file.suffix == ".bin" else data)
    with pytest.raises(InputError, match="bytes"):
        Landmarker(weights=tmp_path)


def test_points_box() -> None:
    assert points_box(np.array([[1, 2], [5, 1], [3, 9]], np.float32)) == Box(1, 1, 5, 9)
