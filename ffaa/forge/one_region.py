"""Edits of one region (warp, blur, retouch, recolour) and changes of expression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from ffaa.forge.faces import SourceFace
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.regions import EDITABLE, Mask, eye_distance, hulls_of, region_mask
from ffaa.forge.whole_face import composite, shift_hsv

OPERATIONS = ("enlarged", "shrunk", "blurred", "recoloured")
"""What may happen to eyes, eyebrows, nose and mouth; skin is only ever ``smoothed``."""


def edit_region(face: SourceFace, strengths: Strengths, rng: Generator, *, region: str | None = None) -> Forgery:
    """One operation on one region.

    Raises:
        InputError: the tree has no such region.
    """
    region = region or str(rng.choice(EDITABLE))
    operation = "smoothed" if region == "skin" else str(rng.choice(OPERATIONS))
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


def _grid(face: SourceFace) -> tuple[np.ndarray, np.ndarray]:
    height, width = face.pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows, columns


def _scaled(face: SourceFace, region: str, scale: float) -> tuple[np.ndarray, Mask]:
    """Radial warp about each part of the region; positive enlarges."""
    grid_y, grid_x = _grid(face)
    map_x, map_y = grid_x.copy(), grid_y.copy()
    mask = np.zeros_like(grid_x)
    hulls = hulls_of(region)
    # Nose and mouth are one body each; their finer concepts would be warped apart.
    groups = [tuple(i for hull in hulls for i in hull)] if region in ("nose", "mouth") else list(hulls)
    for hull in groups:
        part = face.points[list(hull)]
        centre_x, centre_y = (part.min(0) + part.max(0)) / 2
        radius = max(np.ptp(part, axis=0).max() * 0.8, eye_distance(face.points) * 0.33)
        away = np.hypot(grid_x - centre_x, grid_y - centre_y) / radius
        weight = np.where(away < 1, (1 - away**2) ** 2, 0).astype(np.float32)
        map_x -= (grid_x - centre_x) * scale * weight
        map_y -= (grid_y - centre_y) * scale * weight
        mask = np.maximum(mask, weight)
    pixels = cv2.remap(face.pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(pixels, np.uint8), np.minimum(mask * 2, 1).astype(np.float32)
