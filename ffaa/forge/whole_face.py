"""Forgeries of the inner face: self-blending, landmark swap with colour transfer, gradient-domain cloning."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from ffaa.forge.faces import Pixels, SourceFace
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.regions import Mask, face_mask

NARROW_EDGE = 1.8
"""Feather in pixels below which an edge is called narrow."""


def self_blend(face: SourceFace, strengths: Strengths, rng: Generator) -> Forgery:
    """Blend a recoloured, slightly moved copy of the face into itself (Self-Blended Images, arXiv 2204.08376)."""
    source, artefacts = _altered(face.pixels, strengths, rng)
    height, width = face.pixels.shape[:2]
    centre = tuple(float(v) for v in face.points.mean(0))
    move = cv2.getRotationMatrix2D(centre, rng.uniform(-3, 3), rng.uniform(0.95, 1.05))
    move[:, 2] = move[:, 2] + rng.uniform(-3, 3, 2)
    source = np.asarray(cv2.warpAffine(source, move, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
    mask, edge = _soft_face_mask(face, strengths, rng)
    return Forgery(Kind.BLEND, composite(source, face.pixels, mask), mask, ("face",), {**artefacts, **edge})


def swap(donor: SourceFace, target: SourceFace, strengths: Strengths, rng: Generator) -> Forgery:
    """Put the donor's inner face on the target: similarity alignment of landmarks, colour transfer, soft mask."""
    warped = _aligned(donor, target)
    mask, edge = _soft_face_mask(target, strengths, rng)
    matched = _colour_matched(warped, target.pixels, mask > 0.5, rng.uniform(*strengths.colour_transfer))
    return Forgery(Kind.SWAP, composite(matched, target.pixels, mask), mask, ("face",), edge)


def poisson_swap(donor: SourceFace, target: SourceFace, rng: Generator) -> Forgery:
    """Swap by gradient-domain cloning (Perez et al., Poisson image editing, 2003): no seam, the colour is solved."""
    height, width = target.pixels.shape[:2]
    lifted = bool(rng.random() < 0.5)
    mask = face_mask(target.points, height, width, forehead=rng.uniform(0.15, 0.4) if lifted else 0.0)
    mask = cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(np.float32)
    # cv2 refuses masks that touch the border, and centres the *mask's bounding box* on the given point.
    mask[:2], mask[-2:], mask[:, :2], mask[:, -2:] = 0, 0, 0, 0
    left, top, box_width, box_height = cv2.boundingRect(mask.astype(np.uint8))
    centre = (left + box_width // 2, top + box_height // 2)
    cloned = cv2.seamlessClone(
        _aligned(donor, target), target.pixels, (mask * 255).astype(np.uint8), centre, cv2.NORMAL_CLONE
    )
    facts = {"edge": "seamless", "extent": "forehead" if lifted else "brows"}
    return Forgery(Kind.POISSON, np.asarray(cloned, np.uint8), mask, ("face",), facts)


def composite(source: Pixels, target: Pixels, mask: Mask) -> Pixels:
    """``source`` where the mask is 1, ``target`` where it is 0."""
    soft = mask[..., None]
    return np.asarray(np.clip(np.rint(source * soft + target * (1 - soft)), 0, 255), np.uint8)


def shift_hsv(pixels: Pixels, *, hue: float = 0.0, saturation: float = 1.0, value: float = 1.0) -> Pixels:
    """Hue shift in OpenCV's half degrees, saturation and value as factors."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + hue) % 180
    hsv[..., 1] *= saturation
    hsv[..., 2] *= value
    return np.asarray(cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


def _sign(rng: Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _altered(pixels: Pixels, strengths: Strengths, rng: Generator) -> tuple[Pixels, dict[str, str]]:
    """The source of a self-blend and what was done to it."""
    value = _sign(rng) * rng.uniform(*strengths.value)
    saturation = _sign(rng) * rng.uniform(*strengths.saturation)
    hue = rng.uniform(-strengths.hue, strengths.hue)
    what = str(rng.choice(["light", "colour", "both"]))
    artefacts: dict[str, str] = {}
    if what != "colour":
        artefacts["light"] = "brighter" if value > 0 else "darker"
    if what != "light":
        artefacts["colour"] = "more saturated" if saturation > 0 else "paler"
    altered = shift_hsv(
        pixels,
        hue=hue if what != "light" else 0.0,
        saturation=1 + saturation if what != "light" else 1.0,
        value=1 + value if what != "colour" else 1.0,
    )
    draw = rng.random()
    if draw < 0.4:
        height, width = pixels.shape[:2]
        scale = rng.uniform(*strengths.soften)
        small = cv2.resize(altered, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        altered = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        artefacts["sharpness"] = "softer"
    elif draw < 0.8:
        detail = altered.astype(np.float32) - cv2.GaussianBlur(altered, (0, 0), 1.5)
        altered = np.clip(altered + 0.9 * detail, 0, 255).astype(np.uint8)
        artefacts["sharpness"] = "sharper"
    return altered, artefacts


def _soft_face_mask(face: SourceFace, strengths: Strengths, rng: Generator) -> tuple[Mask, dict[str, str]]:
    height, width = face.pixels.shape[:2]
    lifted = bool(rng.random() < 0.5)
    mask = face_mask(face.points, height, width, forehead=rng.uniform(0.15, 0.4) if lifted else 0.0)
    erosion = int(rng.integers(1, 6))
    feather = rng.uniform(*strengths.feather)
    soft = cv2.GaussianBlur(cv2.erode(mask, np.ones((erosion, erosion), np.uint8)), (0, 0), feather)
    edge = "narrow" if feather < NARROW_EDGE else "wide"
    return np.asarray(soft, np.float32), {"edge": edge, "extent": "forehead" if lifted else "brows"}


def _aligned(donor: SourceFace, target: SourceFace) -> Pixels:
    transform, _ = cv2.estimateAffinePartial2D(donor.points, target.points)
    height, width = target.pixels.shape[:2]
    return np.asarray(cv2.warpAffine(donor.pixels, transform, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _colour_matched(source: Pixels, target: Pixels, inside: np.ndarray, strength: float) -> Pixels:
    """Mean and deviation of each channel inside the mask, moved towards the target's (Reinhard et al. 2001, in RGB)."""
    source_f, target_f = source.astype(np.float32), target.astype(np.float32)
    s_mean, s_std = source_f[inside].mean(0), source_f[inside].std(0) + 1e-3
    t_mean, t_std = target_f[inside].mean(0), target_f[inside].std(0)
    matched = (source_f - s_mean) / s_std * t_std + t_mean
    return np.clip(strength * matched + (1 - strength) * source_f, 0, 255).astype(np.uint8)
