"""Facial regions as a concept tree (data: ``concepts.yaml``) and their masks from 68 landmarks.

The tree plays the part of the Facial Image Concept Tree of FiFa-MLLM, whose node list was never published; this one
holds what 68 points can locate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ffaa.types import InputError

Points = NDArray[np.float32]
Mask = NDArray[np.float32]

EDITABLE = ("eyes", "eyebrows", "nose", "mouth", "skin")
"""Regions that one-region edits act on."""


@dataclass(frozen=True)
class Concept:
    """A node of the tree. ``hulls`` are groups of landmark indices; ``children`` are finer concepts."""

    name: str
    parent: str | None
    hulls: tuple[tuple[int, ...], ...]
    grow: float
    lift: float
    without: tuple[str, ...]
    children: tuple[str, ...]


def _walk(name: str, node: Mapping[str, Any], parent: str | None) -> Iterator[Concept]:
    children = node.get("children", {})
    yield Concept(
        name=name,
        parent=parent,
        hulls=tuple(tuple(hull) for hull in node.get("hulls", ())),
        grow=float(node.get("grow", 0.0)),
        lift=float(node.get("lift", 0.0)),
        without=tuple(node.get("without", ())),
        children=tuple(children),
    )
    for child, below in children.items():
        yield from _walk(child, below, name)


@cache
def concepts() -> Mapping[str, Concept]:
    """The tree by name, parents before children."""
    tree = yaml.safe_load((Path(__file__).parent / "concepts.yaml").read_text())
    return {concept.name: concept for root, node in tree.items() for concept in _walk(root, node, None)}


def eye_distance(points: Points) -> float:
    """Distance between the centres of the eyes in pixels; ``points`` is (68, 2)."""
    return float(np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0)))


def hulls_of(name: str) -> tuple[tuple[int, ...], ...]:
    """Landmark groups of a region, its children's included.

    Raises:
        InputError: the tree has no such region.
    """
    tree = concepts()
    if name not in tree:
        raise InputError(f"no region '{name}'; known: {', '.join(tree)}")
    concept = tree[name]
    return concept.hulls + tuple(hull for child in concept.children for hull in hulls_of(child))


def region_mask(name: str, points: Points, height: int, width: int) -> Mask:
    """Hard mask (height, width) in {0, 1} of a region.

    Raises:
        InputError: the tree has no such region.
    """
    hulls_of(name)
    concept = concepts()[name]
    mask = np.zeros((height, width), np.float32)
    for child in concept.children:
        mask = np.maximum(mask, region_mask(child, points, height, width))
    scale = eye_distance(points)
    for hull in concept.hulls:
        outline = points[list(hull)]
        if concept.lift:
            up = points[27:31].mean(0) - points[48:60].mean(0)
            outline = np.vstack([outline, outline + up * concept.lift])
        piece = np.zeros_like(mask)
        cv2.fillConvexPoly(piece, cv2.convexHull(outline.round().astype(np.int32)), 1.0)
        mask = np.maximum(mask, _grown(piece, concept.grow * scale))
    for other in concept.without:
        mask = mask * (1 - _grown(region_mask(other, points, height, width), 0.05 * scale))
    return mask


def face_mask(points: Points, height: int, width: int, *, forehead: float = 0.0) -> Mask:
    """Hull of all landmarks; ``forehead`` raises the brow line by that share of the brow-to-nose distance."""
    outline = points
    if forehead:
        brows = points[17:27]
        outline = np.vstack([points, brows + (brows - points[27:31].mean(0)) * forehead])
    mask = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(outline.round().astype(np.int32)), 1.0)
    return mask


def _grown(mask: Mask, radius: float) -> Mask:
    size = 2 * int(round(radius)) + 1
    return mask if size < 3 else cv2.dilate(mask, np.ones((size, size), np.uint8)).astype(np.float32)
