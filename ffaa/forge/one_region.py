"""Edits of one region (scaling, liquifying, blur, retouch, recolour) and changes of expression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from ffaa.forge.faces import SourceFace
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.regions import EDITABLE, Mask, eye_distance, hulls_of, region_mask
from ffaa.forge.whole_face import composite, shift_hsv

_DRAWN = ("enlarged", "shrunk", "blurred", "recoloured")
OPERATIONS = (*_DRAWN, "liquified")
"""What may happen to eyes, eyebrows, nose and mouth; skin is only ever ``smoothed``."""


def edit_region(face: SourceFace, strengths: Strengths, rng: Generator, *, region: str | None = None) -> Forgery:
    """One operation on one region.

    Raises:
        InputError: the tree has no such region.
    """
    region = region or str(rng.choice(EDITABLE))
    operation = "smoothed" if region == "skin" else _operation(strengths, rng)
    if operation == "liquified":
        pixels, mask = _liquified(face, region, strengths, rng)
        return Forgery(Kind.LOCAL, pixels, mask, (region,), {"operation": operation})
    if operation in ("enlarged", "shrunk"):
        pixels, mask = _scaled(face, region, rng.uniform(*strengths.warp) * (1 if operation == "enlarged" else -1))
        return Forgery(Kind.LOCAL, pixels, mask, (region,), {"operation": operation})
    height, width = face.pixels.shape[:2]
    mask = cv2.GaussianBlur(region_mask(region, face.points, height, width), (0, 0), 1.8).astype(np.float32)
    if operation == "smoothed":
        changed = face.pixels
        for _ in range(strengths.smoothing):
            changed = np.asarray(cv2.bilateralFilter(changed, 9, 45, 6), np.uint8)
    elif operation == "blurred":
        changed = np.asarray(cv2.GaussianBlur(face.pixels, (0, 0), rng.uniform(*strengths.blur)), np.uint8)
    else:
        sign = 1 if rng.random() < 0.5 else -1
        changed = shift_hsv(
            face.pixels,
            hue=sign * rng.uniform(*strengths.tint_hue),
            saturation=float(rng.choice(strengths.tint_saturation)),
            value=float(rng.choice(strengths.tint_value)),
        )
    return Forgery(Kind.LOCAL, composite(changed, face.pixels, mask), mask, (region,), {"operation": operation})


def change_expression(face: SourceFace, strengths: Strengths, rng: Generator) -> Forgery:
    """Move the corners of the mouth up or down, or the lids together or apart, by a smooth warp around them."""
    what = str(rng.choice(["smile", "frown", "widened eyes", "narrowed eyes"]))
    distance = eye_distance(face.points)
    amount = rng.uniform(*strengths.expression) * distance
    anchors: list[tuple[int, float]]
    if what in ("smile", "frown"):
        lift = -amount if what == "smile" else amount
        anchors, region, reach = [(48, lift), (54, lift)], "mouth", 0.45 * distance
    else:
        apart = amount * (0.6 if what == "widened eyes" else -0.6)
        upper, lower = (37, 38, 43, 44), (40, 41, 46, 47)
        anchors = [(i, -apart / 2) for i in upper] + [(i, apart / 2) for i in lower]
        region, reach = "eyes", 0.22 * distance
    grid_y, grid_x = _grid(face)
    shift = np.zeros_like(grid_y)
    total = np.zeros_like(grid_y)
    for index, lift in anchors:
        x, y = face.points[index]
        weight = np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * (reach / 2) ** 2))
        shift += weight * lift
        total = np.maximum(total, weight)
    pixels = cv2.remap(face.pixels, grid_x, grid_y - shift, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    mask = np.minimum(total * 2, 1).astype(np.float32)
    return Forgery(Kind.EXPRESSION, np.asarray(pixels, np.uint8), mask, (region,), {"operation": what})


def _operation(strengths: Strengths, rng: Generator) -> str:
    # Without a share nothing is drawn for it, so that the frozen recipes stay the pictures they are.
    if strengths.liquify_share and rng.random() < strengths.liquify_share:
        return "liquified"
    return str(rng.choice(_DRAWN))


def _grid(face: SourceFace) -> tuple[np.ndarray, np.ndarray]:
    height, width = face.pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows, columns


def _parts(face: SourceFace, region: str) -> list[tuple[float, float, float]]:
    """Centre and radius of each part of a region that moves as one body."""
    hulls = hulls_of(region)
    # Nose and mouth are one body each; their finer concepts would be warped apart.
    groups = [tuple(i for hull in hulls for i in hull)] if region in ("nose", "mouth") else list(hulls)
    parts = []
    for hull in groups:
        part = face.points[list(hull)]
        centre_x, centre_y = (part.min(0) + part.max(0)) / 2
        radius = max(np.ptp(part, axis=0).max() * 0.8, eye_distance(face.points) * 0.33)
        parts.append((centre_x, centre_y, radius))
    return parts


def _bump(grid_x: np.ndarray, grid_y: np.ndarray, part: tuple[float, float, float]) -> np.ndarray:
    """One at the part's centre, falling smoothly to zero at its radius."""
    centre_x, centre_y, radius = part
    away = np.hypot(grid_x - centre_x, grid_y - centre_y) / radius
    return np.where(away < 1, (1 - away**2) ** 2, 0).astype(np.float32)


def _scaled(face: SourceFace, region: str, scale: float) -> tuple[np.ndarray, Mask]:
    """Radial warp about each part of the region; positive enlarges."""
    grid_y, grid_x = _grid(face)
    map_x, map_y = grid_x.copy(), grid_y.copy()
    mask = np.zeros_like(grid_x)
    for part in _parts(face, region):
        weight = _bump(grid_x, grid_y, part)
        map_x -= (grid_x - part[0]) * scale * weight
        map_y -= (grid_y - part[1]) * scale * weight
        mask = np.maximum(mask, weight)
    return _warped(face, map_x, map_y, mask)


def _liquified(face: SourceFace, region: str, strengths: Strengths, rng: Generator) -> tuple[np.ndarray, Mask]:
    """Push points of the region, all one way or each its own, and drag along what is near, as a retoucher's brush."""
    grid_y, grid_x = _grid(face)
    map_x, map_y = grid_x.copy(), grid_y.copy()
    mask = np.zeros_like(grid_x)
    distance = eye_distance(face.points)
    outline = sorted({index for hull in hulls_of(region) for index in hull})
    pushed = rng.choice(outline, size=int(rng.integers(1, 5)), replace=False)
    angles = rng.uniform(0, 2 * np.pi, len(pushed))
    if rng.random() < 0.5:
        angles[:] = angles[0]
    for index, angle in zip(pushed, angles, strict=True):
        x, y = face.points[index]
        radius = rng.uniform(*strengths.brush) * distance
        # Beyond 0.6 radii one push alone would fold the picture: the bump's steepest slope is 1.54 per radius.
        push = min(rng.uniform(*strengths.push) * distance, 0.6 * radius)
        weight = _bump(grid_x, grid_y, (x, y, radius))
        map_x -= weight * np.float32(push * np.cos(angle))
        map_y -= weight * np.float32(push * np.sin(angle))
        mask = np.maximum(mask, weight)
    return _warped(face, map_x, map_y, mask)


def _warped(face: SourceFace, map_x: np.ndarray, map_y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Mask]:
    pixels = cv2.remap(face.pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(pixels, np.uint8), np.minimum(weight * 2, 1).astype(np.float32)
