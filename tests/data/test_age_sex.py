"""The age and sex network against the original's own outputs, and on faces of known people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.data.age_sex import WEIGHTS, AgeSexEstimator, AgeSexNet, aligned_crop
from ffaa.data.faces import FaceDetector
from ffaa.data.images import open_image
from ffaa.data.landmarks import Landmarker
from ffaa.types import InputError

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"


@pytest.fixture(scope="module")
def estimator() -> AgeSexEstimator:
    return AgeSexEstimator()


def test_the_port_gives_what_the_original_gives(estimator: AgeSexEstimator) -> None:
    # face-api.js 1.7.15 on its own CPU backend, this very noise: 79.12271118, 0.99155241.
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    age, male = estimator.network(torch.from_numpy(noise).permute(2, 0, 1)[None].float())
    assert age.item() == pytest.approx(79.12271118, abs=1e-3)
    assert male.item() == pytest.approx(0.99155241, abs=1e-5)


def test_every_weight_of_the_file_is_used() -> None:
    network = AgeSexNet()
    biases = sum(p.numel() for name, p in network.named_parameters() if name.endswith("bias"))
    weights = sum(p.numel() for p in network.parameters()) - biases
    assert weights + 4 * biases == (WEIGHTS / "age_gender_model.bin").stat().st_size == 429_708


def located(name: str) -> tuple[Image.Image, np.ndarray]:
    picture = open_image(SAMPLES / name)
    return picture, Landmarker().points(np.asarray(picture), FaceDetector().largest(picture).box)


def test_two_faces_at_once_give_what_each_gives_alone(estimator: AgeSexEstimator) -> None:
    faces = [located("openpeople_p007.jpg"), located("openpeople_p009_selfie.jpg")]
    together = estimator.estimate(*zip(*faces, strict=True))
    alone = [estimator.estimate([picture], [points])[0] for picture, points in faces]
    for one, other in zip(together, alone, strict=True):
        assert one.age == pytest.approx(other.age, abs=1e-3) and one.male == pytest.approx(other.male, abs=1e-5)
    man, woman = together  # P007: male, 25 to 35; P009: female, 18 to 25, by their metadata
    assert man.male > 0.5 > woman.male and 15 < woman.age < 40 and 20 < man.age < 45
    assert estimator.estimate([], []) == []


def test_the_crop_holds_eyes_and_mouth_where_the_original_has_them() -> None:
    points = np.zeros((68, 2), np.float32)
    points[36:42], points[42:48], points[48:68] = (80, 100), (120, 100), (100, 140)
    picture = Image.new("RGB", (200, 200))
    for x, y, colour in ((80, 100, (255, 0, 0)), (120, 100, (0, 255, 0)), (100, 140, (0, 0, 255))):
        picture.paste(colour, (x - 3, y - 3, x + 4, y + 4))
    crop = np.asarray(aligned_crop(picture, points)).astype(float)
    side = np.hypot(20, 40) / 0.45
    for channel, (x, y) in enumerate(((80, 100), (120, 100), (100, 140))):
        rows, columns = np.nonzero(crop[..., channel] > 128)
        expected = ((x - 100) / side + 0.5, (y - 340 / 3) / side + 0.43)
        assert (columns.mean() / 112, rows.mean() / 112) == pytest.approx(expected, abs=0.02)


def test_missing_weights_and_points_on_one_spot(tmp_path: Path, estimator: AgeSexEstimator) -> None:
    with pytest.raises(InputError, match="missing"):
        AgeSexEstimator(weights=tmp_path)
    with pytest.raises(InputError, match="box"):
        estimator.estimate([Image.new("RGB", (50, 50))], [np.full((68, 2), 20, np.float32)])
