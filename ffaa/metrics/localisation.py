"""Where a heat map lies: on what was edited, or only where anything would lie that favours the middle of a picture.

Maps are arrays (H, W) of finite numbers, none negative; masks are bool (H, W), True where the picture was edited. A map
or mask of another kind is a ValueError; what an empty mask or a map of zeros leaves undefined is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffaa.metrics.ranking import RESAMPLES, Interval

Map = NDArray[np.floating]
Mask = NDArray[np.bool_]

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""Shares of a map's greatest value among which `best_iou` chooses: 0.05 to 0.95."""

_CHUNK = 4_000_000  # values held at once while resampling

INSIDE = 0.75
"""Least share of `coldest_square` that lies within the region it is looked for in."""


def energy_inside(heat: Map, mask: Mask) -> float | None:
    """Share of the map's sum that lies inside the mask, 0 to 1 (Score-CAM's energy-based game, arXiv 1910.01279)."""
    scaled = _scaled(heat, mask)
    return None if scaled is None else float(scaled[mask].sum() / scaled.sum())


def pointing_game(heat: Map, mask: Mask) -> float | None:
    """1 where the map's maximum is inside the mask, else 0; of equal maxima, the share of them that is inside.

    As in arXiv 1608.00507, without its tolerance of 15 pixels, in which a small edit would be hit from beside it.
    """
    scaled = _scaled(heat, mask)
    return None if scaled is None else float(mask[scaled == 1].mean())


def iou_at(heat: Map, mask: Mask, threshold: float = 0.5) -> float | None:
    """Intersection over union, 0 to 1, of the mask and of what reaches ``threshold`` times the map's maximum."""
    scaled = _scaled(heat, mask)
    if scaled is None:
        return None
    hot = scaled >= threshold
    return float((hot & mask).sum() / (hot | mask).sum())


def best_iou(heat: Map, mask: Mask, thresholds: Sequence[float] = THRESHOLDS) -> float | None:
    """`iou_at` the best of the thresholds for this very picture: what no threshold chosen beforehand can exceed."""
    found = [iou for threshold in thresholds if (iou := iou_at(heat, mask, threshold)) is not None]
    return max(found, default=None)


def localisation(heat: Map, mask: Mask) -> dict[str, float | None]:
    """All figures of one map: ``energy``, ``pointing``, ``iou`` (at half the maximum) and ``best_iou``."""
    return {
        "energy": energy_inside(heat, mask),
        "pointing": pointing_game(heat, mask),
        "iou": iou_at(heat, mask),
        "best_iou": best_iou(heat, mask),
    }


def centre_gaussian(shape: tuple[int, int], sigma: float = 0.25) -> NDArray[np.float64]:
    """A map (H, W) that knows only where the middle is; ``sigma`` is a share of the height and of the width.

    Raises:
        ValueError: ``sigma`` is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    down, across = ((np.arange(length) - (length - 1) / 2) / (sigma * length) for length in shape)
    gaussian: NDArray[np.float64] = np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2)
    return gaussian


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are defined; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def paired_difference(
    first: Sequence[float | None],
    second: Sequence[float | None],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean of ``first - second`` over pictures, with its 95 % percentile interval by the paired bootstrap.

    The same pairs give the same interval, in whatever order they come.

    Args:
        first: (n,) one finite value a picture; None where it is undefined, which leaves the picture out.
        second: (n,) likewise, of the same pictures in the same order.
        resamples: how many resamples of the pictures.
        seed: of the resampling.

    Returns:
        ``n`` pairs; their ``difference``, None without a pair; ``difference_interval``, None under two pairs.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    values = np.sort(np.array([a - b for a, b in pairs], np.float64))
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    return {
        "n": values.size,
        "difference": float(values.mean()) if values.size else None,
        "difference_interval": _bootstrap(values, resamples, seed) if values.size > 1 else None,
    }


def _bootstrap(values: NDArray[np.float64], resamples: int, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // values.size)
    means = [
        values[rng.integers(values.size, size=(min(chunk, resamples - start), values.size))].mean(axis=1)
        for start in range(0, resamples, chunk)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Square:
    """A square of a picture, in whole pixels."""

    top: int
    left: int
    side: int

    @property
    def pixels(self) -> tuple[slice, slice]:
        """What indexes its pixels in an array (H, W, ...)."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def hottest_square(heat: Map, side: int) -> Square | None:
    """The square of ``side`` pixels with the greatest mean, the first in reading order; None for a map of zeros.

    Raises:
        ValueError: the square does not fit into the map.
    """
    _check_side(heat.shape, side)
    if not heat.any():
        return None
    means = square_means(heat / heat.max(), side)
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    return Square(int(top), int(left), side)


def coldest_square(heat: Map, within: Mask, apart: Square, inside: float = INSIDE) -> Square | None:
    """The square with the least mean, of the size of ``apart`` and without a pixel of it.

    At least the share ``inside`` of it lies ``within`` a region; of equally cold ones, the one with most of the region.

    Returns:
        The square; None where there is no such place.

    Raises:
        ValueError: map and region differ in shape, or the map is none.
    """
    _check(heat, within)
    coverage = square_means(within, apart.side)
    rows, columns = np.indices(coverage.shape)
    free = (abs(rows - apart.top) >= apart.side) | (abs(columns - apart.left) >= apart.side)
    places = np.argwhere(free & (coverage >= inside))
    if not len(places):
        return None
    tops, lefts = places.T
    means = square_means(heat / heat.max() if heat.any() else heat, apart.side)
    first = np.lexsort((-coverage[tops, lefts], means[tops, lefts]))[0]
    return Square(int(tops[first]), int(lefts[first]), apart.side)


def central_square(region: Mask, side: int) -> Square | None:
    """The square of ``side`` pixels about a region's centre of mass, moved into the picture; None without a region.

    Raises:
        ValueError: the square does not fit into the picture.
    """
    _check_side(region.shape, side)
    if not region.any():
        return None
    corner = (np.argwhere(region).mean(axis=0) - (side - 1) / 2).round().astype(int)
    top, left = np.clip(corner, 0, np.array(region.shape) - side).tolist()
    return Square(top, left, side)


def deletion_squares(heat: Map, region: Mask, share: float) -> dict[str, Square] | None:
    """What to hide of a picture, to see whether the map knows what decides (deletion as in RISE, arXiv 1806.07421).

    Returns:
        Squares of ``share`` of the picture: its ``hot`` one; the ``cold`` one within the region, apart from it; the one
        in the region's ``middle``, which a map has to surpass that knows more than where the region is. None unless
        all three are there.

    Raises:
        ValueError: map and region differ in shape, the map is none, or the squares do not fit.
    """
    _check(heat, region)
    side = max(1, round((share * heat.size) ** 0.5))
    hot, middle = hottest_square(heat, side), central_square(region, side)
    cold = coldest_square(heat, region, hot) if hot else None
    return {"hot": hot, "cold": cold, "middle": middle} if hot and cold and middle else None


def hottest_first(heat: Map, steps: int) -> NDArray[np.bool_] | None:
    """(steps + 1, H, W) bool: the hottest 0, 1/steps, ... and all of a map's pixels; None for a map of zeros.

    Equal pixels follow one another in an order that is spread over the picture and the same every time, so that a
    coarse map does not count as one that knows the reading order.

    Raises:
        ValueError: ``steps`` is below 1, or the map is none.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    _check(heat, np.ones(heat.shape, bool))
    if not heat.any():
        return None
    spread = np.random.default_rng(0).permutation(heat.size)
    order = spread[np.argsort(-heat.ravel()[spread], kind="stable")]
    place = np.empty(heat.size, np.int64)
    place[order] = np.arange(heat.size)
    counts = np.round(np.arange(steps + 1) / steps * heat.size).astype(np.int64)
    return (place[None] < counts[:, None]).reshape(steps + 1, *heat.shape)


def curve_area(values: Sequence[float]) -> float | None:
    """Area below a curve over equal steps from 0 to 1, by straight lines; None of no values, the value of one."""
    if len(values) < 2:
        return float(values[0]) if values else None
    return float(sum(values) - (values[0] + values[-1]) / 2) / (len(values) - 1)


def square_means(values: NDArray[Any], side: int) -> NDArray[np.float64]:
    """(H, W) -> (H - side + 1, W - side + 1): the mean of each square of ``side`` pixels by its upper left corner.

    For values of at most about 1; means are rounded to nine decimals.

    Raises:
        ValueError: the square does not fit.
    """
    _check_side(values.shape, side)
    sums = np.pad(values.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    # Differences of running sums leave dust of 1e-13, which would decide between squares that are equal.
    means: NDArray[np.float64] = np.round(inside / side**2, 9)
    return means


def _check_side(shape: tuple[int, ...], side: int) -> None:
    if not 1 <= side <= min(shape):
        raise ValueError(f"no square of {side} pixels fits into {shape}")


def _check(heat: Map, mask: Mask) -> None:
    if heat.ndim != 2 or heat.shape != mask.shape or mask.dtype != np.bool_:
        raise ValueError(f"a map {heat.shape} and a bool mask {mask.shape} ({mask.dtype}) must be of one shape (H, W)")
    if not (np.isfinite(heat).all() and (heat >= 0).all()):
        raise ValueError("a heat map is finite and nowhere negative")


def _scaled(heat: Map, mask: Mask) -> NDArray[np.float64] | None:
    """The checked map over its maximum; None where it is zero throughout or the mask is empty."""
    _check(heat, mask)
    values = np.asarray(heat, np.float64)
    return values / values.max() if mask.any() and values.any() else None
