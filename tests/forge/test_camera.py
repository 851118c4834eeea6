"""The bottleneck: the same for real and forged pictures, and mask and landmarks travel with the pixels."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image

from ffaa.data.faces import crop_face
from ffaa.forge.camera import Camera, Shot, shoot
from ffaa.forge.faces import SourceFace

PLAIN = Camera(
    margin=(0.3, 0.3),
    shift=0.0,
    contrast=(1.0, 1.0),
    brightness=(0.0, 0.0),
    gain=0.0,
    soften_share=0.0,
    flip_share=0.0,
    jpeg=(95, 95),
)


def test_a_shot_is_a_jpeg_of_the_stated_size_and_the_pixels_it_decodes_to(face: SourceFace) -> None:
    shot = shoot(face, None, Camera(size=160), default_rng(0))
    assert shot.pixels.shape == (160, 160, 3) and shot.mask.shape == (160, 160) and shot.points.shape == (68, 2)
    assert shot.mask.dtype == shot.points.dtype == np.float32 and not shot.mask.any()
    with Image.open(io.BytesIO(shot.jpeg)) as image:
        assert image.format == "JPEG" and image.size == (160, 160)
        assert np.abs(np.asarray(image.convert("RGB"), int) - shot.pixels).max() <= 3, "RGB order, up to the decoder"


def test_the_same_seed_gives_the_same_bytes(face: SourceFace) -> None:
    first, again, other = (shoot(face, None, Camera(), default_rng(seed)) for seed in (1, 1, 2))
    assert first.jpeg == again.jpeg and first.jpeg != other.jpeg


def test_real_and_forged_pass_through_the_same_law(face: SourceFace) -> None:
    mask = np.zeros(face.pixels.shape[:2], np.float32)
    mask[10:40, 10:40] = 1
    for seed in range(5):
        camera = Camera(face_pixels=(40, 60), grey_share=0.5)
        real, forged = (shoot(face, m, camera, default_rng(seed)) for m in (None, mask))
        assert real.jpeg == forged.jpeg, "a mask may not change a picture"


def test_without_its_changes_the_camera_is_the_plain_crop(face: SourceFace) -> None:
    shot = shoot(face, None, PLAIN, default_rng(0))
    plain = np.asarray(crop_face(Image.fromarray(face.pixels), face.box, 0.3, 224), float)
    assert np.abs(shot.pixels - plain).mean() < 3


def _dotted(face: SourceFace, landmark: int) -> tuple[SourceFace, np.ndarray]:
    pixels, mask = np.zeros_like(face.pixels), np.zeros(face.pixels.shape[:2], np.float32)
    x, y = face.points[landmark].round().astype(int)
    radius = max(2, face.pixels.shape[0] // 60)
    cv2.circle(pixels, (int(x), int(y)), radius, (255, 255, 255), -1)
    cv2.circle(mask, (int(x), int(y)), radius, 1.0, -1)
    return replace(face, pixels=pixels), mask


def _centre(values: np.ndarray) -> np.ndarray:
    """Of the blob nearest to the middle (the border may hold the blob's mirror image)."""
    _, _, _, centres = cv2.connectedComponentsWithStats((values > 0.5).astype(np.uint8))
    middle = np.array(values.shape[::-1]) / 2
    return min(centres[1:], key=lambda centre: float(np.linalg.norm(centre - middle)))


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("face_pixels", [None, (50.0, 60.0)])
def test_mask_and_landmarks_travel_with_the_pixels(
    flip: float, face_pixels: tuple[float, float] | None, face: SourceFace
) -> None:
    camera = replace(PLAIN, shift=3.0, margin=(0.2, 0.4), flip_share=flip, face_pixels=face_pixels)
    dotted, mask = _dotted(face, 36)
    landmark = 45 if flip else 36  # a mirrored picture's landmarks are renumbered
    for seed in range(3):
        shot = shoot(dotted, mask, camera, default_rng(seed))
        dot = _centre(shot.pixels[..., 0] / shot.pixels.max())
        assert np.linalg.norm(dot - shot.points[landmark]) < 4
        assert np.linalg.norm(dot - _centre(shot.mask / shot.mask.max())) < 2


def _detail(shot: Shot) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(shot.pixels, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def test_faces_are_scaled_down_to_the_given_size_and_never_up(colour_face: SourceFace, grey_face: SourceFace) -> None:
    sharp = shoot(colour_face, None, PLAIN, default_rng(0))
    small = shoot(colour_face, None, replace(PLAIN, face_pixels=(40, 40)), default_rng(0))
    assert small.pixels.shape == sharp.pixels.shape and _detail(small) < 0.5 * _detail(sharp)
    enough = replace(PLAIN, face_pixels=(4000, 4000))
    assert shoot(colour_face, None, enough, default_rng(0)).jpeg == sharp.jpeg


def test_grey_pictures_are_grey(colour_face: SourceFace) -> None:
    pixels = shoot(colour_face, None, replace(PLAIN, grey_share=1.0), default_rng(0)).pixels.astype(int)
    assert np.ptp(pixels, axis=2).max() <= 2
    assert np.ptp(shoot(colour_face, None, PLAIN, default_rng(0)).pixels.astype(int), axis=2).max() > 20


def test_every_change_stays_within_its_range(colour_face: SourceFace) -> None:
    plain = shoot(colour_face, None, PLAIN, default_rng(0)).pixels.astype(float).mean((0, 1))
    brighter = shoot(colour_face, None, replace(PLAIN, brightness=(10.0, 10.0)), default_rng(0)).pixels
    assert brighter.astype(float).mean((0, 1)) == pytest.approx(plain + 10, abs=1.5)
    gained = shoot(colour_face, None, replace(PLAIN, gain=0.04), default_rng(0)).pixels.astype(float).mean((0, 1))
    assert (np.abs(gained / plain - 1) < 0.05).all() and (gained != plain).any()
    sizes = [len(shoot(colour_face, None, replace(PLAIN, jpeg=(q, q)), default_rng(0)).jpeg) for q in (30, 70, 95)]
    assert sizes == sorted(sizes) and sizes[2] > 2 * sizes[0]
    softened = shoot(colour_face, None, replace(PLAIN, soften_share=1.0, soften=(0.5, 0.5)), default_rng(0))
    assert _detail(softened) < 0.8 * _detail(shoot(colour_face, None, PLAIN, default_rng(0)))


def test_a_face_mirrored_twice_is_itself(face: SourceFace) -> None:
    twice = face.mirrored().mirrored()
    assert np.array_equal(twice.pixels, face.pixels) and np.allclose(twice.points, face.points, atol=1e-3)
    assert twice.box.left == pytest.approx(face.box.left)
    mirrored = face.mirrored().points
    assert mirrored[36:42, 0].mean() < mirrored[42:48, 0].mean(), "landmarks are renumbered, not only moved"


def test_a_picture_cut_close_keeps_the_face_and_mirrors_its_border(colour_face: SourceFace) -> None:
    plain = shoot(colour_face, None, PLAIN, default_rng(0))
    cut = shoot(colour_face, None, replace(PLAIN, tight_share=1.0, tight=(0.05, 0.05)), default_rng(0))
    inner = slice(60, 160)
    assert np.abs(cut.pixels[inner, inner].astype(float) - plain.pixels[inner, inner]).mean() < 4, "the face stays"
    assert np.abs(cut.pixels[:, :8].astype(float) - plain.pixels[:, :8]).mean() > 4, "the border is mirrored"
    assert np.abs(cut.points - plain.points).max() < 2


def test_a_share_of_zero_leaves_the_draws_of_older_recipes_as_they_are(face: SourceFace) -> None:
    first = shoot(face, None, Camera(), default_rng(3))
    assert first.jpeg == shoot(face, None, replace(Camera(), tight=(0.0, 0.0)), default_rng(3)).jpeg
