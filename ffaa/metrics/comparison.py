"""Two runs on the same pictures: is one better, or was it luck? Paired tests of accuracy and of AUC.

Both treat pictures as independent. Where pictures share a person or video, read their p as a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ffaa.metrics.ranking import Interval

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class McNemar:
    """Accuracy of the first less that of the second (McNemar 1947)."""

    difference: float
    """Within -1..1."""
    interval: Interval
    """95 %, by Bonett and Price 2012 (J. Educ. Behav. Stat. 37, eq. 2): Wald's with one picture added to both cells."""
    p: float
    """Exact, two-sided: twice the binomial tail, at most 1."""
    mid_p: float
    """The observed count at half its weight: it holds its level and is less timid (Fagerland et al. 2013)."""
    only_first: int
    """Pictures that the first alone decides rightly."""
    only_second: int
    """Pictures that the second alone decides rightly."""
    n: int


@dataclass(frozen=True)
class DeLong:
    """AUC of the first less that of the second (DeLong et al. 1988)."""

    difference: float
    """Within -1..1."""
    interval: Interval | None
    """95 %, normal, cut to -1..1; None where a class has one picture, of which no variance is known."""
    p: float | None
    """Two-sided; None likewise, and where the difference is not 0 and its variance is: no pair is misplaced."""
    aucs: tuple[float, float]
    n: int


def mcnemar(right_a: Sequence[bool], right_b: Sequence[bool]) -> McNemar | None:
    """Whether two runs differ in accuracy on the same pictures; None for no pictures.

    Args:
        right_a: (n,) whether the first decides rightly.
        right_b: (n,) whether the second does.

    Raises:
        ValueError: the lengths differ.
    """
    first, second = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two runs on the same pictures expected, got {first.shape} and {second.shape}")
    n = first.size
    if not n:
        return None
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    tail, at = _binomial_tail(min(b, c), b + c)
    added = (b + 1) / (n + 2), (c + 1) / (n + 2)
    centre = added[0] - added[1]
    half = _Z95 * math.sqrt((sum(added) - centre**2) / (n + 2))
    return McNemar(
        (b - c) / n,
        (max(-1.0, centre - half), min(1.0, centre + half)),
        min(1.0, 2 * tail),
        min(1.0, 2 * tail - at),
        b,
        c,
        n,
    )


def _binomial_tail(k: int, n: int) -> tuple[float, float]:
    """P(X <= k) and P(X = k) of n fair coins."""
    steps = np.log(np.arange(n, n - k, -1)) - np.log(np.arange(1, k + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - n * math.log(2)
    return float(np.exp(logs).sum()), float(np.exp(logs[-1]))


def delong(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> DeLong | None:
    """Whether two scores differ in AUC on the same pictures; None unless both classes occur.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores_a: (n,) finite, of the first.
        scores_b: (n,) finite, of the second.

    Raises:
        ValueError: the lengths differ, or a score is not finite.
    """
    truth = np.asarray(labels, dtype=bool)
    both = [np.asarray(scores, dtype=np.float64) for scores in (scores_a, scores_b)]
    if any(scores.shape != truth.shape for scores in both) or truth.ndim != 1:
        raise ValueError(f"labels {truth.shape} and scores {[scores.shape for scores in both]} must be of one length")
    if not all(np.isfinite(scores).all() for scores in both):
        raise ValueError("scores must be finite")
    if not truth.any() or truth.all():
        return None
    won = [_shares_won(scores, truth) for scores in both]
    aucs = (float(won[0][0].mean()), float(won[1][0].mean()))
    by_fake, by_real = (won[0][at] - won[1][at] for at in (0, 1))
    difference = float(by_fake.mean())
    if min(by_fake.size, by_real.size) < 2:
        return DeLong(difference, None, None, aucs, truth.size)
    error = math.sqrt(sum(float(part.var(ddof=1)) / part.size for part in (by_fake, by_real)))
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 1e-12 else 1.0 if abs(difference) < 1e-12 else None
    interval = max(-1.0, difference - _Z95 * error), min(1.0, difference + _Z95 * error)
    return DeLong(difference, interval, p, aucs, truth.size)


def _shares_won(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Of each fake the share of reals below it, and of each real the share of fakes above it; ties half."""
    fakes, reals = np.sort(scores[truth]), np.sort(scores[~truth])

    def below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
        left, right = (np.searchsorted(others, values, side=side) for side in ("left", "right"))
        return np.asarray((left + right) / 2 / others.size, dtype=np.float64)

    return below(scores[truth], reals), 1 - below(scores[~truth], fakes)
