"""From a method's scores to a probability that means what it says, and the band in which it decides nothing.

Platt's scaling (Platt 1999) of one or several scores: a logistic regression on their logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_CLIP = 1e-4
"""Scores nearer to 0 or 1 count as this near: a saturated one may not outweigh all others."""


def logit(score: float | None) -> float:
    """log(p / (1 - p)), of a score clipped to [1e-4, 1 - 1e-4]; 0 for a score that is not there."""
    if score is None:
        return 0.0
    kept = min(max(score, _CLIP), 1 - _CLIP)
    return math.log(kept / (1 - kept))


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)) without overflow."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


@dataclass(frozen=True)
class Calibration:
    """P(fake) = sigmoid(bias + sum of weight x logit(score)) over named scores."""

    weights: Mapping[str, float]
    """Of each score's logit."""
    bias: float = 0.0
    """Added to their sum."""
    uncertain: tuple[float, float] = (0.5, 0.5)
    """Probabilities between these two, both exclusive, decide nothing."""
    fitted_on: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the weights whose scores it was fitted to."""
    generate_num: int = 3
    """Answers a picture that the scores came from."""
    measured: Mapping[str, float | int | None] = field(default_factory=dict)
    """What it achieved on the pictures it was fitted to, cross-validated by person."""

    def __post_init__(self) -> None:
        low, high = self.uncertain
        if not self.weights or not all(map(math.isfinite, (*self.weights.values(), self.bias))):
            raise ValueError(f"weights and bias are finite numbers, not {dict(self.weights)} and {self.bias}")
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ValueError(f"the uncertain band holds 0.5 and lies within 0 and 1, not ({low}, {high})")

    def probability(self, scores: Mapping[str, float | None]) -> float:
        """P(fake); a score that is missing speaks neither way."""
        total = self.bias + sum(weight * logit(scores.get(name)) for name, weight in self.weights.items())
        return sigmoid(total)

    def is_uncertain(self, probability: float, *, says_fake: bool) -> bool:
        """Whether it lies in the band, or on the other side of 0.5 than the verdict."""
        low, high = self.uncertain
        return low < probability < high or (probability > 0.5) != says_fake


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float | None:
    """Mean gap between P(fake) and the share of forged pictures over bins of equal width (Naeini et al. 2015).

    Args:
        labels: (n,) whether forged.
        probabilities: (n,) P(fake) in [0, 1].
        bins: how many.

    Returns:
        Within 0..1; None for no pictures.
    """
    found = reliability_bins(labels, probabilities, bins)
    total = sum(one["n"] for one in found)
    return sum(abs(one["fake"] - one["stated"]) * one["n"] for one in found if one["n"]) / total if total else None


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[dict[str, Any]]:
    """What a reliability diagram shows, a bin of equal width each: ``low, high, n, stated, fake``.

    ``stated`` is the mean P(fake) of its pictures and ``fake`` the share of them that is forged, both None in an empty
    bin. The last bin holds 1. Arguments as of `expected_calibration_error`.
    """
    truth, stated = np.asarray(labels, float), np.asarray(probabilities, float)
    # Sums in one order, so that they do not depend on that of the pictures by a last digit.
    order = np.lexsort((truth, stated))
    truth, stated = truth[order], stated[order]
    places = np.minimum((stated * bins).astype(int), bins - 1)
    counts, sums, fakes = (np.bincount(places, of, bins) for of in (np.ones_like(truth), stated, truth))
    return [
        {
            "low": k / bins,
            "high": (k + 1) / bins,
            "n": int(counts[k]),
            "stated": float(sums[k] / counts[k]) if counts[k] else None,
            "fake": float(fakes[k] / counts[k]) if counts[k] else None,
        }
        for k in range(bins)
    ]


def uncertain_band(labels: ArrayLike, probabilities: ArrayLike, accuracy: float = 0.9) -> tuple[float, float]:
    """The narrowest band around 0.5, in steps of 0.01, outside of which so large a share is decided rightly.

    The widest, from 0.05 to 0.95, where none is.
    """
    truth, stated = np.asarray(labels, bool), np.asarray(probabilities, float)
    for half in np.arange(0, 46) / 100:
        low, high = float(round(0.5 - half, 2)), float(round(0.5 + half, 2))
        outside = ~((stated > low) & (stated < high))
        right = (stated > 0.5) == truth
        if outside.any() and right[outside].mean() >= accuracy:
            return low, high
    return 0.05, 0.95
