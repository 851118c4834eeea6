"""The ROC curve, its equal error rate, and the threshold that a validation split fixes.

Fake is the positive class (1), scores rise with it, and what reaches a threshold is called fake. What one class alone
leaves undefined is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1), one for each distinct score; pictures of one score are one step."""

    false_positive_rate: Values
    true_positive_rate: Values
    thresholds: Values
    """Least score that is called fake; infinite at the first point, where nothing is."""

    @property
    def equal_error_rate(self) -> float:
        """Where as many reals are called fake as fakes real, on the straight lines between the points."""
        false, missed = self.false_positive_rate, 1 - self.true_positive_rate
        gap = missed - false
        after = int(np.argmax(gap <= 0))
        before = after - 1
        along = gap[before] / (gap[before] - gap[after])
        return float(false[before] + along * (false[after] - false[before]))

    def points(self, most: int = 200) -> list[list[float | None]]:
        """``[false positive rate, true positive rate, threshold]``, JSON-ready, both ends among them.

        Of more than ``most`` points those nearest to even steps along the curve are kept; the first threshold, which
        no score reaches, is None.
        """
        along = self.false_positive_rate + self.true_positive_rate
        kept = np.arange(along.size)
        if along.size > most:
            kept = np.unique(np.searchsorted(along, np.linspace(0, 2, most)).clip(0, along.size - 1))
        rows = zip(self.false_positive_rate[kept], self.true_positive_rate[kept], self.thresholds[kept], strict=True)
        return [[float(f), float(t), float(x) if np.isfinite(x) else None] for f, t, x in rows]


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve | None:
    """The ROC curve of scores; None unless both classes occur.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores: (n,) finite.

    Raises:
        ValueError: the lengths differ, or a score is not finite.
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must be of one length")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    if not truth.any() or truth.all():
        return None
    negated, group = np.unique(-values, return_inverse=True)
    fakes, reals = (np.bincount(group[of], minlength=negated.size).cumsum() for of in (truth, ~truth))
    return RocCurve(
        np.concatenate([[0.0], reals / reals[-1]]),
        np.concatenate([[0.0], fakes / fakes[-1]]),
        np.concatenate([[np.inf], -negated]),
    )


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """`RocCurve.equal_error_rate` of scores, 0 to 1; None unless both classes occur. Raises as `roc_curve` does."""
    curve = roc_curve(labels, scores)
    return None if curve is None else curve.equal_error_rate


def best_threshold(labels: ArrayLike, scores: ArrayLike) -> dict[str, Any] | None:
    """The threshold that a validation split fixes: of the greatest balanced accuracy there.

    It lies halfway to the next lower score, so that it does not hang on one picture's exact value; of several equally
    good ones the one nearest to 0.5. None unless both classes occur. Raises as `roc_curve` does.

    Returns:
        ``threshold``: what is above it is called fake; ``balanced_accuracy`` that it has here; ``n`` pictures.
    """
    curve = roc_curve(labels, scores)
    if curve is None:
        return None
    balanced = (curve.true_positive_rate + 1 - curve.false_positive_rate) / 2
    # Calling nothing fake, or all, is no threshold that was learned: they stand at the ends as a last resort.
    lower = np.concatenate([curve.thresholds[1:], [curve.thresholds[-1] - 1e-6]])
    upper = np.concatenate([[curve.thresholds[1] + 1e-6], curve.thresholds[1:]])
    middles = (upper + lower) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    chosen = best[np.argmin(abs(middles[best] - 0.5))]
    return {
        "threshold": float(middles[chosen]),
        "balanced_accuracy": float(balanced[chosen]),
        "n": int(np.asarray(labels).size),
    }
