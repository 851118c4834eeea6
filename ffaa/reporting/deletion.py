"""Deletion and insertion curves of heat maps: does the score follow what the map calls important?

As in RISE (Petsiuk et al. 2018, arXiv 1806.07421, section 4.3): the hottest pixels are hidden first, or shown first on
a picture that hides all. Hidden is blurred, so that no hard edge is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ffaa.metrics.localisation import Map, Square, curve_area, hottest_first

Judge = Callable[[Sequence[Image.Image]], Sequence[float]]
"""Pictures -> what the map explains of each, 0 to 1."""


def deletion_insertion(
    image: Image.Image, maps: Mapping[str, Map], judge: Judge, *, steps: int = 8, blur: float = 0.04
) -> dict[str, dict[str, Any]]:
    """Curves of one picture by several maps.

    Args:
        image: upright RGB, of the maps' size.
        maps: name -> (H, W), none negative; a map of zeros has no order and is left out.
        judge: what the maps explain, of whole batches.
        steps: equal shares of the picture that are hidden, or shown, one after another.
        blur: standard deviation of what hides, as a share of the shorter side.

    Returns:
        name -> ``deletion`` and ``insertion`` (steps + 1 values each) and their areas (0 to 1): a map that means
        something has a low ``deletion_area`` and a high ``insertion_area``.
    """
    pixels = np.array(image)
    hidden = np.asarray(cv2.GaussianBlur(pixels, (0, 0), blur * min(image.size)))
    orders = {name: order for name, heat in maps.items() if (order := hottest_first(heat, steps)) is not None}
    ends = judge([image, Image.fromarray(hidden)])
    found = {}
    for name, order in orders.items():
        inner = order[1:-1]
        pictures = [np.where(mask[..., None], hidden, pixels) for mask in inner]
        pictures += [np.where(mask[..., None], pixels, hidden) for mask in inner]
        values = list(judge([Image.fromarray(picture) for picture in pictures])) if pictures else []
        deletion = [ends[0], *values[: len(inner)], ends[1]]
        insertion = [ends[1], *values[len(inner) :], ends[0]]
        found[name] = {
            "deletion": deletion,
            "insertion": insertion,
            "deletion_area": curve_area(deletion),
            "insertion_area": curve_area(insertion),
        }
    return found


def blurred(image: Image.Image, square: Square, blur: float) -> Image.Image:
    """The picture with one square blurred, its surroundings flowing in; ``blur`` is a share of the shorter side."""
    pixels = np.array(image)
    smooth = np.asarray(cv2.GaussianBlur(pixels, (0, 0), blur * min(image.size)))
    pixels[square.pixels] = smooth[square.pixels]
    return Image.fromarray(pixels)
