"""From frames to videos: one score a video, by the mean or the trimmed mean of its frames' scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

TRIM = 0.1
"""Share of a video's frames that is left out at either end: of 100, the ten lowest and the ten highest (M2F2-Det)."""

BOTH_LABELS = "groups hold real and forged pictures: they are people, not videos"
NO_GROUPS = "no picture has a group"


def trimmed_mean(values: ArrayLike, trim: float = TRIM) -> float | None:
    """The mean without ``floor(trim x n)`` of the n values at either end; None of no values.

    Raises:
        ValueError: ``trim`` is not within 0 and 0.5 (exclusive).
    """
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim must be at least 0 and below 0.5, got {trim}")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    # Of 10 frames 0.1 is one, though 0.1 * 10 may be a little less in floating point.
    cut = int(trim * ordered.size + 1e-9)
    return float(ordered[cut : ordered.size - cut].mean()) if ordered.size else None


def pool_frames(lines: Sequence[Mapping[str, Any]], trim: float = TRIM) -> list[dict[str, Any]]:
    """One line a group, in the order of their first frames: ``group, label, n`` frames, ``mean``, ``trimmed_mean``.

    Args:
        lines: frames with ``group`` (None: left out), ``label`` and ``score``.
        trim: see `trimmed_mean`.

    Raises:
        ValueError: a group holds frames of both labels.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line.get("group") is not None:
            groups.setdefault(line["group"], []).append(line)
    if any(len({line["label"] for line in frames}) > 1 for frames in groups.values()):
        raise ValueError(BOTH_LABELS)
    return [
        {
            "group": group,
            "label": frames[0]["label"],
            "n": len(frames),
            "mean": trimmed_mean([line["score"] for line in frames], 0.0),
            "trimmed_mean": trimmed_mean([line["score"] for line in frames], trim),
        }
        for group, frames in groups.items()
    ]
