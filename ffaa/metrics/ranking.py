"""How well scores rank fakes above reals: ROC AUC and average precision with bootstrap intervals.

Fake is the positive class (1). Tied scores are one step, as they are for scikit-learn. What one class alone leaves
undefined is None.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
Counts = NDArray[np.float64]

RESAMPLES = 2000
_CHUNK = 4_000_000  # counts held at once while resampling


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve, ties counted half; None unless both classes occur.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores: (n,) finite, higher = more likely fake.
    """
    ranking = _Ranking(labels, scores)
    return ranking.of_all(ranking.auc)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the precision-recall curve as a step function; None unless both classes occur.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores: (n,) finite, higher = more likely fake.
    """
    ranking = _Ranking(labels, scores)
    return ranking.of_all(ranking.average_precision)


def bootstrap_intervals(
    labels: ArrayLike, scores: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval | None]:
    """95 % percentile intervals of AUC and average precision by the stratified bootstrap.

    Each class is resampled on its own, so that every resample has both. The same labels and scores give the same
    intervals, in whatever order they come.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores: (n,) finite.
        resamples: how many resamples.
        seed: of the resampling.

    Returns:
        ``auc`` and ``average_precision``: (low, high), or None unless both classes occur.
    """
    ranking = _Ranking(labels, scores)
    if not ranking.defined:
        return {"auc": None, "average_precision": None}
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // ranking.n)
    aucs, precisions = [], []
    for start in range(0, resamples, chunk):
        fake, real = ranking.resample(min(chunk, resamples - start), rng)
        aucs.append(ranking.auc(fake, real))
        precisions.append(ranking.average_precision(fake, real))
    return {"auc": _percentiles(aucs), "average_precision": _percentiles(precisions)}


def ranking_statistics(labels: ArrayLike, scores: ArrayLike, weights: Counts) -> dict[str, Counts]:
    """AUC and average precision under other weights of the pictures.

    Args:
        labels: (n,) of 0 (real) and 1 (fake).
        scores: (n,) finite.
        weights: (resamples, n), none negative.

    Returns:
        ``auc`` and ``average_precision``, (resamples,) each; NaN where the weights leave one class only.
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values[order]) != 0]))
    drawn = weights[:, order]
    fake = np.add.reduceat(drawn * truth[order], starts, axis=1)
    real = np.add.reduceat(drawn * ~truth[order], starts, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"auc": _Ranking.auc(fake, real), "average_precision": _Ranking.average_precision(fake, real)}
    both = (fake.sum(axis=1) > 0) & (real.sum(axis=1) > 0)
    return {name: np.where(both, value, np.nan) for name, value in found.items()}


def _percentiles(values: list[NDArray[np.float64]]) -> Interval:
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


class _Ranking:
    """Counts of fakes and reals at each distinct score, highest first: (1, groups) each.

    The statistics take such counts with any number of rows, one per resample: (resamples, groups).
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
        if truth.shape != values.shape or truth.ndim != 1:
            raise ValueError(f"labels {truth.shape} and scores {values.shape} must be of one length")
        if not np.isfinite(values).all():
            raise ValueError("scores must be finite")
        self.n = truth.size
        _, group = np.unique(-values, return_inverse=True)
        n_groups = int(group.max()) + 1 if self.n else 0
        self.fake = np.bincount(group[truth], minlength=n_groups)[None].astype(np.float64)
        self.real = np.bincount(group[~truth], minlength=n_groups)[None].astype(np.float64)
        self.defined = bool(truth.any() and not truth.all())

    def of_all(self, statistic: Callable[[Counts, Counts], Counts]) -> float | None:
        """The statistic of the pictures themselves, None unless both classes occur."""
        return float(statistic(self.fake, self.real)[0]) if self.defined else None

    def resample(self, resamples: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
        """Counts per group of fakes and reals, each drawn with replacement: two of (resamples, groups)."""
        drawn = []
        for counts in (self.fake[0], self.real[0]):
            groups = np.repeat(np.arange(counts.size), counts.astype(np.int64))
            picked = groups[rng.integers(groups.size, size=(resamples, groups.size))]
            flat = picked + counts.size * np.arange(resamples)[:, None]
            tally = np.bincount(flat.ravel(), minlength=resamples * counts.size)
            drawn.append(tally.reshape(resamples, counts.size).astype(np.float64))
        return drawn[0], drawn[1]

    @staticmethod
    def auc(fake: Counts, real: Counts) -> Counts:
        """Share of (fake, real) pairs in which the fake is above, ties half: (resamples,)."""
        fakes_above = np.cumsum(fake, axis=1) - fake / 2
        pairs = fake.sum(axis=1) * real.sum(axis=1)
        shares: Counts = (real * fakes_above).sum(axis=1) / pairs
        return shares

    @staticmethod
    def average_precision(fake: Counts, real: Counts) -> Counts:
        """Sum of the precision at each step, weighted by the recall it adds: (resamples,)."""
        true = np.cumsum(fake, axis=1)
        called = true + np.cumsum(real, axis=1)
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        areas: Counts = (fake * precision).sum(axis=1) / fake.sum(axis=1)
        return areas
