"""95 % intervals that know that pictures of one person or video are not independent, and fast ones for many pictures.

Up to :data:`MANY` pictures the bootstrap, beyond them the infinitesimal jackknife (Efron 2014, JASA 109): each
picture's derivative of a figure by its weight, summed within its group, squared and added. For the AUC that is DeLong's
variance (DeLong et al. 1988).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffaa.metrics.ranking import RESAMPLES, Interval, bootstrap_intervals, ranking_statistics

MANY = 5000
"""Pictures above which derivatives take the bootstrap's place."""
FEW = 5
"""Groups below which those that decide a figure are too few to be resampled."""
_CHUNK = 4_000_000  # weights held at once while resampling
_Z95 = 1.959963984540054

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """What figures are made of: ``fake`` and ``right`` (n,) bool, ``scores`` (n,) finite or None, ``groups`` (n,)."""

    fake: NDArray[np.bool_]
    right: NDArray[np.bool_]
    scores: Values | None
    groups: Sequence[str]

    @functools.cached_property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) each picture's group as a number, by the groups' names in order."""
        number_of = {name: number for number, name in enumerate(sorted(set(self.groups)))}
        return np.array([number_of[name] for name in self.groups], dtype=np.int64)

    @functools.cached_property
    def by_class(self) -> NDArray[np.int64]:
        """(2, groups) how many real ones, and fakes, each group has."""
        groups = int(self.numbers.max()) + 1
        return np.stack([np.bincount(self.numbers[of], minlength=groups) for of in (~self.fake, self.fake)])

    @property
    def mixed(self) -> bool:
        """Whether a group holds both classes."""
        return bool((self.by_class > 0).all(axis=0).any())

    @functools.cached_property
    def strata(self) -> NDArray[np.int64]:
        """(groups,) the class of each where classes are drawn on their own, else 0; see `group_intervals`."""
        has = self.by_class > 0
        apart = not self.mixed and int(has.sum(axis=1).min()) >= FEW
        return has[1].astype(np.int64) if apart else np.zeros(has.shape[1], dtype=np.int64)


def ranking_intervals(fake: NDArray[np.bool_], scores: Values, *, seed: int = 0) -> dict[str, Interval | None]:
    """Intervals of ``auc`` and ``average_precision`` of independent pictures; None unless both classes occur.

    Where a class has fewer than :data:`FEW` pictures, or all resamples are the same, as of fakes that all rank above
    the real ones, Wilson's interval takes their place as in `group_intervals`.

    Args:
        fake: (n,) bool.
        scores: (n,) finite.
        seed: of the bootstrap.
    """
    if not fake.any() or fake.all():
        return {"auc": None, "average_precision": None}
    derivatives = _ranking_derivatives(fake, scores)
    found: dict[str, Interval | None]
    if fake.size <= MANY:
        found = bootstrap_intervals(fake, scores, seed=seed)
    else:
        found = {name: _by_derivative(*of, fake.astype(np.int64)) for name, of in derivatives.items()}
    rarer = min(int(fake.sum()), int((~fake).sum()))
    return {name: _or_wilson(value, found[name], (rarer, rarer)) for name, (value, _) in derivatives.items()}


def group_intervals(pictures: Pictures, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval | None]:
    """Intervals of ``accuracy, balanced_accuracy, recall_real, recall_fake, auc, average_precision`` by group.

    Whole groups are drawn. Where each has one class and both classes have :data:`FEW` groups at least, each class is
    drawn on its own, so that a resample has both; else all together, because a stratum of a few groups varies too
    little, and one of a single group not at all. Resamples of one class are left out of what they do not define.

    Where fewer than :data:`FEW` groups decide a figure, those that hold a picture of the class in question (for figures
    of both classes, of the rarer one), or where all resamples are the same, as of a share of 0 or 1, the interval is
    Wilson's of as many pictures as there are such groups (of unequal ones Kish's number, the square of the summed sizes
    by the sum of their squares): exact where all pictures of a group are right or wrong together, too wide where they
    are not. For the AUC that is the greatest variance that two independent samples can have, A (1 - A) / min(m, n)
    (Birnbaum and Klose 1957, Ann. Math. Stat. 28); average precision is treated likewise, with no such proof. The mean
    of two independent shares has half of it. Groups of both classes void the independence, and the number is halved.

    The same groups give the same intervals, in whatever order their pictures come.

    Returns:
        (low, high) each; None where the figure is not defined.
    """
    if not pictures.fake.size:
        return dict.fromkeys(_FIGURES)
    figures = _figures(pictures, np.ones((1, pictures.strata.size)))
    found: dict[str, Interval | None]
    if pictures.fake.size > MANY:
        found = {
            name: _by_derivative(value, np.bincount(pictures.numbers, derivative).astype(np.float64), pictures.strata)
            for name, (value, derivative) in _derivatives(pictures).items()
        }
    else:
        found = {name: _percentiles(values) for name, values in _drawn(pictures, resamples, seed).items()}
    return {
        name: _or_wilson(float(value[0]), found.get(name), _decides(pictures, name)) if np.isfinite(value[0]) else None
        for name, value in figures.items()
    }


def difference_of_two(first: float, of_first: Interval, second: float, of_second: Interval) -> tuple[float, Interval]:
    """One figure less another of other people, with its 95 % interval from those of both (Zou and Donner 2008).

    Of shares with Wilson's intervals that is Newcombe's (1998). Both are taken for independent: where people stand on
    both sides, the interval is too wide.
    """
    below = float(np.hypot(first - of_first[0], of_second[1] - second))
    above = float(np.hypot(of_first[1] - first, second - of_second[0]))
    return first - second, (first - second - below, first - second + above)


def paired_auc_difference(
    first: Pictures, other: Values, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval | None] | None:
    """AUC of ``first`` less that of ``other`` scores (n,) of the same pictures; both are drawn with the same groups.

    None unless both classes occur and have scores; the interval is None where fewer than :data:`FEW` groups decide.
    """
    if first.scores is None or first.fake.all() or not first.fake.any():
        return None
    scores = first.scores

    def gain(weights: Values) -> Values:
        sides = (ranking_statistics(first.fake, of, weights[:, first.numbers])["auc"] for of in (scores, other))
        return np.subtract(*sides)

    difference = float(gain(np.ones((1, first.strata.size)))[0])
    if _decides(first, "auc")[0] < FEW:
        return difference, None
    return difference, _percentiles(np.concatenate([gain(part) for part in _group_weights(first, resamples, seed)]))


_FIGURES = ("accuracy", "balanced_accuracy", "recall_real", "recall_fake", "auc", "average_precision")


def _figures(pictures: Pictures, weights: Values) -> Mapping[str, Values]:
    """Each figure under (resamples, groups) weights of the groups: (resamples,), NaN where undefined."""
    numbers, groups = pictures.numbers, weights.shape[1]

    def total(of: NDArray[np.bool_]) -> Values:
        return weights @ np.bincount(numbers[of], minlength=groups).astype(np.float64)

    fake, right = pictures.fake, pictures.right
    with np.errstate(invalid="ignore", divide="ignore"):
        real_share, fake_share = total(~fake & right) / total(~fake), total(fake & right) / total(fake)
        shares = {
            "accuracy": total(right) / total(np.ones_like(fake)),
            "balanced_accuracy": (real_share + fake_share) / 2,
            "recall_real": real_share,
            "recall_fake": fake_share,
        }
        if pictures.scores is None:
            return shares
        return shares | ranking_statistics(fake, pictures.scores, weights[:, numbers])


def _drawn(pictures: Pictures, resamples: int, seed: int) -> dict[str, Values]:
    parts = [_figures(pictures, weights) for weights in _group_weights(pictures, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _group_weights(pictures: Pictures, resamples: int, seed: int) -> Iterator[Values]:
    """How often each group is drawn: (some resamples, groups) at a time."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, pictures.strata.size))
    for stratum in np.unique(pictures.strata):
        chosen = pictures.strata == stratum
        size = int(chosen.sum())
        weights[:, chosen] = rng.multinomial(size, np.full(size, 1 / size), resamples)
    chunk = max(1, _CHUNK // pictures.fake.size)
    for start in range(0, resamples, chunk):
        yield weights[start : start + chunk]


def _percentiles(values: Values) -> Interval | None:
    # Where classes are drawn together, a resample may by chance have one class only.
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _decides(pictures: Pictures, name: str) -> tuple[int, float]:
    """How many groups decide a figure, and as how many independent pictures they count at least."""
    real, fake = pictures.by_class
    sizes = {"accuracy": [real + fake], "recall_real": [real], "recall_fake": [fake]}.get(name, [real, fake])
    count = min(int((of > 0).sum()) for of in sizes)
    number = min(float(of.sum() ** 2 / (of**2).sum()) for of in sizes)
    if len(sizes) == 2:
        number *= (2 if name == "balanced_accuracy" else 1) / (2 if pictures.mixed else 1)
    return count, number


def _or_wilson(value: float, interval: Interval | None, decides: tuple[int, float]) -> Interval:
    count, n = decides
    if interval is not None and count >= FEW and interval[1] - interval[0] > 1e-12:
        return interval
    scale = 1 + _Z95**2 / n
    centre = (value + _Z95**2 / (2 * n)) / scale
    half = _Z95 * np.sqrt(value * (1 - value) / n + (_Z95 / (2 * n)) ** 2) / scale
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _derivatives(pictures: Pictures) -> dict[str, tuple[float, Values]]:
    """Each figure with its derivative (n,) by the pictures' weights."""
    fake, right = pictures.fake, pictures.right.astype(np.float64)
    found = {"accuracy": (float(right.mean()), (right - right.mean()) / right.size)}
    recalls = {}
    for name, of in (("recall_real", ~fake), ("recall_fake", fake)):
        if of.any():
            share = float(right[of].mean())
            recalls[name] = (share, np.where(of, right - share, 0.0) / of.sum())
    found |= recalls
    if len(recalls) == 2:
        (real, by_real), (forged, by_fake) = recalls.values()
        found["balanced_accuracy"] = ((real + forged) / 2, (by_real + by_fake) / 2)
        if pictures.scores is not None:
            found |= _ranking_derivatives(fake, pictures.scores)
    return found


def _ranking_derivatives(fake: NDArray[np.bool_], scores: Values) -> dict[str, tuple[float, Values]]:
    """AUC and average precision, each with its derivative (n,) by the pictures' weights; both classes occur."""
    negated, group = np.unique(-scores, return_inverse=True)
    fakes, reals = (np.bincount(group[of], minlength=negated.size).astype(np.float64) for of in (fake, ~fake))
    n_fake, n_real = fakes.sum(), reals.sum()
    above_real = np.cumsum(fakes) - fakes / 2
    below_fake = n_real - np.cumsum(reals) + reals / 2
    auc = float((reals * above_real).sum() / (n_fake * n_real))
    by_auc = np.where(fake, (below_fake / n_real - auc)[group] / n_fake, (above_real / n_fake - auc)[group] / n_real)
    true, called = np.cumsum(fakes), np.cumsum(fakes + reals)
    precision = true / called
    area = float((fakes * precision).sum() / n_fake)
    # One more fake at a score adds its precision there and moves that of all steps at or below it; a real only moves.
    moves_fake = np.cumsum((fakes * (called - true) / called**2)[::-1])[::-1]
    moves_real = -np.cumsum((fakes * true / called**2)[::-1])[::-1]
    by_area = np.where(fake, (precision + moves_fake - area)[group], moves_real[group]) / n_fake
    return {"auc": (auc, by_auc), "average_precision": (area, by_area)}


def _by_derivative(value: float, derivatives: Values, strata: NDArray[np.int64]) -> Interval:
    """From the derivatives by what is drawn, each stratum on its own; normal on the logit, so that it stays in 0..1."""
    variance = 0.0
    for stratum in np.unique(strata):
        part = derivatives[strata == stratum]
        variance += float(part.var(ddof=1)) * part.size if part.size > 1 else 0.0
    if not 0 < value < 1 or variance == 0:
        return value, value
    centre, half = np.log(value / (1 - value)), _Z95 * np.sqrt(variance) / (value * (1 - value))
    return float(1 / (1 + np.exp(half - centre))), float(1 / (1 + np.exp(-half - centre)))
