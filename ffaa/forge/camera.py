"""The bottleneck that every picture, real or forged, passes through: one crop, one size, mild colour change, one JPEG.

What differs between the two classes after it is the forgery and nothing else; ``scripts/data/check_leaks.py`` measures
that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from ffaa.data.faces import crop_box, crop_face, pixel_square
from ffaa.forge.faces import Pixels, SourceFace
from ffaa.forge.forgery import Range
from ffaa.forge.regions import Mask, Points
from ffaa.types import Box


@dataclass(frozen=True)
class Camera:
    """Ranges are drawn from uniformly; the same law for real and forged pictures."""

    size: int = 224
    """Side of the stored picture in pixels."""
    margin: Range = (0.22, 0.42)
    """Margin of the crop around the detected face (:func:`ffaa.data.faces.crop_box`)."""
    shift: float = 3.0
    """Largest shift of the crop in source pixels, each axis."""
    contrast: Range = (0.92, 1.08)
    """Factor about mid grey."""
    brightness: Range = (-10.0, 10.0)
    """Added grey levels."""
    gain: float = 0.04
    """Largest relative gain of a single channel."""
    soften_share: float = 0.25
    """Share of pictures that are scaled down and up again."""
    soften: Range = (0.6, 0.9)
    """Scale of that detour."""
    flip_share: float = 0.5
    """Share of mirrored pictures."""
    grey_share: float = 0.0
    """Share of pictures turned to grey."""
    jpeg: Range = (72, 95)
    """Quality of the one JPEG compression."""
    tight_share: float = 0.0
    """Share of pictures cut close around the face first, so that the crop is filled up with mirrored borders."""
    tight: Range = (0.0, 0.15)
    """What such a cut leaves around the face box, as a share of its longer side."""
    face_pixels: Range | None = None
    """Longer side of the face box in pixels before the crop: larger faces are scaled down to it. None: none are."""


@dataclass(frozen=True)
class Shot:
    """One picture after the bottleneck: the JPEG file's bytes, its pixels (S, S, 3), mask (S, S), landmarks (68, 2)."""

    jpeg: bytes
    pixels: Pixels
    mask: Mask
    points: Points


def shoot(face: SourceFace, mask: Mask | None, camera: Camera, rng: Generator) -> Shot:
    """Send a face, and the mask of what was changed in it, through the bottleneck."""
    mask = np.zeros(face.pixels.shape[:2], np.float32) if mask is None else mask
    face, mask = _scaled_down(face, mask, camera, rng)
    # A share of 0 draws nothing, so that older recipes give the pictures they gave.
    if camera.tight_share and rng.random() < camera.tight_share:
        face, mask = _cut_close(face, mask, rng.uniform(*camera.tight))
    dx, dy = rng.uniform(-camera.shift, camera.shift, 2)
    margin = rng.uniform(*camera.margin)
    box = Box(face.box.left + dx, face.box.top + dy, face.box.right + dx, face.box.bottom + dy)
    pixels = np.asarray(crop_face(Image.fromarray(face.pixels), box, margin, camera.size))
    mask_image = crop_face(Image.fromarray((mask * 255).astype(np.uint8)).convert("RGB"), box, margin, camera.size)
    left, top, side = pixel_square(crop_box(box, margin))
    points = ((face.points - [left, top]) * (camera.size / side)).astype(np.float32)
    toned = _toned(pixels, camera, rng)
    shot = SourceFace(face.id, face.person, toned, Box(0, 0, camera.size, camera.size), points)
    soft: Mask = np.asarray(mask_image)[..., 0].astype(np.float32) / np.float32(255)
    if rng.random() < camera.flip_share:
        shot, soft = shot.mirrored(), np.ascontiguousarray(soft[:, ::-1])
    jpeg = _encode_jpeg(shot.pixels, int(round(rng.uniform(*camera.jpeg))))
    return Shot(jpeg, _decode_jpeg(jpeg), soft, shot.points)


def _scaled_down(face: SourceFace, mask: Mask, camera: Camera, rng: Generator) -> tuple[SourceFace, Mask]:
    if camera.face_pixels is None:
        return face, mask
    scale = rng.uniform(*camera.face_pixels) / max(face.box.width, face.box.height)
    if scale >= 1:
        return face, mask
    size = (round(face.pixels.shape[1] * scale), round(face.pixels.shape[0] * scale))
    pixels = np.asarray(cv2.resize(face.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    box = Box(*(v * scale for v in (face.box.left, face.box.top, face.box.right, face.box.bottom)))
    smaller = replace(face, pixels=pixels, box=box, points=face.points * np.float32(scale))
    return smaller, np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32)


def _cut_close(face: SourceFace, mask: Mask, around: float) -> tuple[SourceFace, Mask]:
    box, margin = face.box, around * max(face.box.width, face.box.height)
    left, top = max(0, int(box.left - margin)), max(0, int(box.top - margin))
    right, bottom = int(np.ceil(box.right + margin)), int(np.ceil(box.bottom + margin))
    moved = Box(box.left - left, box.top - top, box.right - left, box.bottom - top)
    pixels = np.ascontiguousarray(face.pixels[top:bottom, left:right])
    cut = replace(face, pixels=pixels, box=moved, points=face.points - np.array([left, top], np.float32))
    return cut, np.ascontiguousarray(mask[top:bottom, left:right])


def _toned(pixels: Pixels, camera: Camera, rng: Generator) -> Pixels:
    toned = (pixels.astype(np.float32) - 128) * rng.uniform(*camera.contrast) + 128 + rng.uniform(*camera.brightness)
    toned *= 1 + rng.uniform(-camera.gain, camera.gain, 3)
    out = np.clip(toned, 0, 255).astype(np.uint8)
    if rng.random() < camera.grey_share:
        out = np.asarray(cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    if rng.random() < camera.soften_share:
        scale = rng.uniform(*camera.soften)
        small = cv2.resize(out, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(small, (camera.size, camera.size), interpolation=cv2.INTER_CUBIC), np.uint8)
    return out


def _encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data)


def _decode_jpeg(data: bytes) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None, "bytes that cv2 encoded decode"
    return np.ascontiguousarray(decoded[..., ::-1])
