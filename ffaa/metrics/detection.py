"""Real or fake: all figures of a run with their 95 % intervals, from the lines of its predictions file.

Fake is the positive class (1) and scores are P(fake). An undecided verdict counts as wrong, never as either class. A
figure that is not defined, such as the AUC of one class, is None, and ``undefined`` says why.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffaa.dialogue.answers import NO_FORGERY, TYPE_ALIASES, canonical_type
from ffaa.metrics.calibration import expected_calibration_error, reliability_bins
from ffaa.metrics.curves import equal_error_rate, roc_curve
from ffaa.metrics.intervals import Pictures, group_intervals, ranking_intervals
from ffaa.metrics.pooling import BOTH_LABELS, NO_GROUPS, pool_frames
from ffaa.metrics.ranking import Interval, average_precision, roc_auc
from ffaa.metrics.rules import Lines, are_calibrated, by_score, decisions_of, method_of
from ffaa.types import Hypothesis, Verdict

_Z95 = 1.959963984540054

RANKING_FIGURES = ("auc", "average_precision", "equal_error_rate")
"""What needs a score and both classes."""

SCORED = ("method", "opening", "calibrated")
"""Decisions whose ROC curves a summary holds."""
RELIABLE = ("method", "calibrated")
"""Decisions whose scores are held against the share of forged pictures."""


def wilson_interval(n_correct: int, n: int) -> Interval | None:
    """The 95 % score interval of a share (Wilson 1927), which stays within 0..1 and has a width at 0 and 1 too."""
    if n == 0:
        return None
    share, z2 = n_correct / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def balanced_interval(n_correct: tuple[int, int], n: tuple[int, int]) -> Interval | None:
    """The 95 % interval of the mean of two shares, combined from their Wilson intervals (Zou and Donner 2008)."""
    shares = [c / k if k else 0.0 for c, k in zip(n_correct, n, strict=True)]
    bounds = [wilson_interval(c, k) for c, k in zip(n_correct, n, strict=True)]
    if bounds[0] is None or bounds[1] is None:
        return None
    below = np.hypot(shares[0] - bounds[0][0], shares[1] - bounds[1][0]) / 2
    above = np.hypot(bounds[0][1] - shares[0], bounds[1][1] - shares[1]) / 2
    centre = sum(shares) / 2
    return max(0.0, float(centre - below)), min(1.0, float(centre + above))


def share(n_correct: int, n: int) -> dict[str, Any]:
    """An accuracy with its count and its 95 % interval: ``n, n_correct, accuracy, accuracy_interval``."""
    return {
        "n": n,
        "n_correct": n_correct,
        "accuracy": n_correct / n if n else None,
        "accuracy_interval": wilson_interval(n_correct, n),
    }


def decision_metrics(
    labels: Sequence[str],
    verdicts: Sequence[str],
    scores: Sequence[float | None] | None,
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of one way to decide.

    Args:
        labels: (n,) ``real`` or ``fake``.
        verdicts: (n,) ``real``, ``fake`` or anything else, which is wrong and counted in ``n_unparsed``.
        scores: (n,) P(fake), or None where there is none; ranked as 0.5 and counted in ``n_without_score``. None in
            place of the list, or a list of None only: the decision has no score, and no AUC, AP and EER.
        groups: (n,) the person or video of each picture, whose pictures are not independent: intervals by group
            (`ffaa.metrics.intervals`) in place of Wilson's and the stratified bootstrap's.
        seed: of the bootstrap.

    Returns:
        Shares within 0..1, intervals as (low, high), None where undefined; ``confusion``, label -> verdict -> count;
        ``undefined``, figure -> why it is None.
    """
    counts = Counter(zip(labels, map(str, verdicts), strict=True))
    confusion = _confusion(counts)
    n_of = {kind: sum(row.values()) for kind, row in confusion.items()}
    right = {kind: row[kind] for kind, row in confusion.items()}
    recall = {kind: share(right[kind], n_of[kind]) for kind in n_of}
    balanced = (right["real"] / n_of["real"] + right["fake"] / n_of["fake"]) / 2 if min(n_of.values()) else None
    n_unparsed = sum(row["unparsed"] for row in confusion.values())
    fake = np.array([label == "fake" for label in labels], dtype=bool)
    ranked, n_scored = _ranked(scores)
    figures = {
        **share(sum(right.values()), len(labels)),
        "balanced_accuracy": balanced,
        "balanced_accuracy_interval": balanced_interval((right["real"], right["fake"]), (n_of["real"], n_of["fake"])),
        **_ranking_metrics(fake, ranked, seed if groups is None else None),
        "n_without_score": len(labels) - n_scored,
        "recall_real": recall["real"]["accuracy"],
        "recall_real_interval": recall["real"]["accuracy_interval"],
        "recall_fake": recall["fake"]["accuracy"],
        "recall_fake_interval": recall["fake"]["accuracy_interval"],
        "n_real": n_of["real"],
        "n_fake": n_of["fake"],
        "n_unparsed": n_unparsed,
        "unparsed": n_unparsed / len(labels) if labels else None,
        "confusion": confusion,
    }
    if groups is not None:
        correct = np.array([label == verdict for label, verdict in zip(labels, verdicts, strict=True)], dtype=bool)
        pictures = Pictures(fake, correct, ranked, groups)
        figures |= {f"{name}_interval": found for name, found in group_intervals(pictures, seed=seed).items()}
    return {**figures, "undefined": _reasons(figures, scored=ranked is not None)}


def _ranked(scores: Sequence[float | None] | None) -> tuple[NDArray[np.float64] | None, int]:
    """(n,) what pictures are ranked by, 0.5 for those without a score, None where none has one; and how many have."""
    values = np.array(scores or [], dtype=np.float64)  # None becomes NaN
    known = np.isfinite(values)
    return (np.where(known, values, 0.5) if known.any() else None), int(known.sum())


def _ranking_metrics(fake: NDArray[np.bool_], ranked: NDArray[np.float64] | None, seed: int | None) -> dict[str, Any]:
    """AUC, average precision and EER; without a seed no intervals."""
    values, truth = (np.zeros(0), fake[:0]) if ranked is None else (ranked, fake)
    intervals = {} if seed is None else ranking_intervals(truth, values, seed=seed)
    return {
        "auc": roc_auc(truth, values),
        "auc_interval": intervals.get("auc"),
        "average_precision": average_precision(truth, values),
        "average_precision_interval": intervals.get("average_precision"),
        "equal_error_rate": equal_error_rate(truth, values),
    }


def _confusion(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Label -> verdict -> count; whatever is no verdict is ``unparsed``."""
    rows = {label: dict.fromkeys(("real", "fake", "unparsed"), 0) for label in ("real", "fake")}
    for (label, verdict), count in counts.items():
        rows[label][verdict if verdict in rows else "unparsed"] += count
    return rows


def _reasons(figures: Mapping[str, Any], *, scored: bool) -> dict[str, str]:
    """Why each figure that is None is."""
    missing = [kind for kind in ("real", "fake") if not figures[f"n_{kind}"]]
    lacking = f"no {' and no '.join(missing)} pictures" if missing else ""
    reasons = {}
    for name in ("accuracy", "balanced_accuracy", "recall_real", "recall_fake", *RANKING_FIGURES):
        if figures[name] is None:
            unscored = name in RANKING_FIGURES and not scored and figures["n"]
            reasons[name] = "this decision has no score" if unscored else lacking
    return reasons


def typed_accuracy(classes: Sequence[str], predicted: Sequence[str | None]) -> dict[str, Any]:
    """k-class accuracy over no forgery and the forgery types, with the counts behind it.

    Args:
        classes: (n,) true class names.
        predicted: (n,) class names; None where the answer gives none, which is wrong.

    Returns:
        ``share`` of the right ones, ``n_classes``, ``by_class`` (recall of each true class), and ``confusion``: true
        class -> predicted class -> count, ``unnamed`` for None.
    """
    confusion: dict[str, dict[str, int]] = {}
    for true, guess in zip(classes, predicted, strict=True):
        row = confusion.setdefault(true, {})
        row[guess or "unnamed"] = row.get(guess or "unnamed", 0) + 1
    confusion = {true: dict(sorted(row.items())) for true, row in sorted(confusion.items())}
    right = {true: row.get(true, 0) for true, row in confusion.items()}
    return {
        **share(sum(right.values()), len(classes)),
        "n_classes": len(confusion),
        "by_class": {true: share(right[true], sum(row.values())) for true, row in confusion.items()},
        "confusion": confusion,
    }


def overall(accuracies: Mapping[str, float], apart: str) -> dict[str, float]:
    """A family's mean and spread of accuracy, the in-domain benchmark apart.

    Args:
        accuracies: benchmark -> accuracy.
        apart: the in-domain benchmark (``ma``), which never enters the mean.

    Returns:
        ``mean``; ``spread``, the population standard deviation over the others; and, where ``apart`` is given,
        ``spread_with_<apart>`` over all of them, the reading that fits the published sACC.
    """
    others = [value for name, value in accuracies.items() if name != apart]
    result = {"mean": float(np.mean(others)), "spread": float(np.std(others))}
    if apart in accuracies:
        result[f"spread_with_{apart}"] = float(np.std(list(accuracies.values())))
    return result


def summarize(
    predictions: Sequence[Mapping[str, Any]],
    *,
    type_aliases: Mapping[str, str] = TYPE_ALIASES,
    threshold: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a run from the lines of its ``predictions.jsonl`` alone.

    Pictures that failed are counted in ``n_failed`` and enter no figure. Where lines have a ``group`` (person or
    video), all intervals of decisions are by group; a picture without one is a group of its own.

    Args:
        predictions: lines as mappings, in any order.
        type_aliases: casefolded spellings of forgery types, see :func:`ffaa.dialogue.answers.canonical_type`.
        threshold: of the method's score, fixed on a validation split (`ffaa.metrics.curves.best_threshold`).
        seed: of the bootstrap.

    Returns:
        A JSON-ready dict: counts; ``decisions``: one :func:`decision_metrics` for each of ``method`` (its own
        decision), ``free_answer``, ``opening`` (its first deciding token, where the answers have one),
        ``majority_vote``, ``score_threshold`` (score > 0.5), ``validated`` (score > ``threshold``), ``calibrated``
        (calibrated P(fake) > 0.5, where the lines have one) and ``majority_class``; ``roc``: points of the curves of
        decisions with a score of their own; ``reliability``: bins and error of the method's score and of the calibrated
        one; ``groups``: how many, and figures of videos by pooled frames; ``answers`` (how many, unparsed, cut);
        ``calibration``: its expected calibration error, and the method's accuracy where it is certain and where it is
        not; ``by_chosen``, ``by_difficulty``, ``by_type`` and ``types`` where the lines hold what they need, else empty
        or None.
    """
    done = [line for line in predictions if line["status"] == "ok"]
    labels = [line["label"] for line in done]
    groups = groups_of(done)
    decided = decisions_of(done, threshold)
    answers = [answer for line in done for answer in line["answers"]]
    n_unparsed = sum(answer["verdict"] == Verdict.UNPARSED for answer in answers)
    return {
        "n": len(done),
        "n_failed": len(predictions) - len(done),
        "n_real": labels.count("real"),
        "n_fake": labels.count("fake"),
        "threshold": threshold,
        "decisions": {
            name: decision_metrics(labels, *found, groups=groups, seed=seed) for name, found in decided.items()
        },
        "roc": {name: _roc(labels, decided[name][1]) for name in SCORED if name in decided},
        "reliability": {name: _reliability(labels, decided[name][1]) for name in RELIABLE if name in decided},
        "groups": _groups(done, groups, seed),
        "answers": {
            "n": len(answers),
            "n_unparsed": n_unparsed,
            "unparsed": n_unparsed / len(answers) if answers else None,
            "n_unfinished": sum(not answer["finished"] for answer in answers),
        },
        "by_chosen": _accuracy_by(done, _chosen_kind),
        "by_difficulty": _by_difficulty(done, seed),
        "by_type": _accuracy_by(done, lambda line: line["forgery_type"]),
        "calibration": _calibration(done) if are_calibrated(done) else None,
        "types": _types(done, type_aliases),
    }


def groups_of(lines: Lines) -> list[str] | None:
    """(n,) the group of each picture, one of its own where it has none; None where no picture has one."""
    named = [line.get("group") for line in lines]
    if all(name is None for name in named):
        return None
    # A NUL, which no name from a file holds, keeps made-up names apart from given ones.
    return [f"\0{line['id']}" if name is None else str(name) for line, name in zip(lines, named, strict=True)]


def _roc(labels: Sequence[str], scores: Sequence[float | None] | None) -> list[list[float | None]] | None:
    ranked, _ = _ranked(scores)
    curve = None if ranked is None else roc_curve([label == "fake" for label in labels], ranked)
    return None if curve is None else curve.points()


def _reliability(labels: Sequence[str], scores: Sequence[float | None] | None) -> dict[str, Any]:
    known = [(label == "fake", x) for label, x in zip(labels, scores or [], strict=True) if x is not None]
    truth, stated = [label for label, _ in known], [score for _, score in known]
    return {
        "n": len(known),
        "expected_calibration_error": expected_calibration_error(truth, stated),
        "bins": reliability_bins(truth, stated),
    }


def _groups(lines: Lines, groups: Sequence[str] | None, seed: int) -> dict[str, Any]:
    """How many groups there are, and the figures of videos: the mean of their frames' scores above 0.5."""
    found: dict[str, Any] = {"n": 0, "videos": None, "undefined": NO_GROUPS}
    if groups is None:
        return found
    found["n"] = len(set(groups))
    try:
        videos = pool_frames(lines)
    except ValueError:
        return {**found, "undefined": BOTH_LABELS}
    labels = [video["label"] for video in videos]
    pooled = {
        way: decision_metrics(labels, *by_score([video[way] for video in videos]), seed=seed)
        for way in ("mean", "trimmed_mean")
    }
    return {**found, "videos": pooled, "undefined": None}


def _calibration(lines: Lines) -> dict[str, Any]:
    known = [line for line in lines if line.get("probability") is not None]
    certain = [line for line in known if not line["uncertain"]]
    # What states no verdict has no probability either, and is wrong.
    uncertain = [line for line in lines if line.get("uncertain") is not False]
    return {
        "expected_calibration_error": expected_calibration_error(
            [line["label"] == "fake" for line in known], [line["probability"] for line in known]
        ),
        "certain": share(sum(map(_is_right, certain)), len(certain)),
        "uncertain": share(sum(map(_is_right, uncertain)), len(uncertain)),
    }


def _is_right(line: Mapping[str, Any]) -> bool:
    return bool(line["verdict"] == line["label"])


def _accuracy_by(lines: Lines, key: Callable[[Mapping[str, Any]], str | None]) -> dict[str, Any]:
    """The method's accuracy within each group that ``key`` names; None belongs to no group."""
    groups: dict[str, list[bool]] = {}
    for line in lines:
        if (name := key(line)) is not None:
            groups.setdefault(name, []).append(_is_right(line))
    return {name: share(sum(right), len(right)) for name, right in sorted(groups.items())}


def _chosen_kind(line: Mapping[str, Any]) -> str | None:
    """Whether the chosen answer is the free one, or presumed the opposite or the same verdict as the free one said.

    An unparsed free answer is ordered as if it said fake, as published.
    """
    answers = line["answers"]
    if len(answers) < 2:
        return None
    presumed = answers[line["chosen"]]["hypothesis"]
    if presumed == Hypothesis.NONE:
        return "free"
    free = "real" if answers[0]["verdict"] == Verdict.REAL else "fake"
    return "same" if presumed == free else "opposite"


def _by_difficulty(lines: Lines, seed: int) -> dict[str, Any]:
    result = {}
    for name in ("easy", "hard"):
        part = [line for line in lines if line["difficulty"] == name]
        if part:
            labels = [line["label"] for line in part]
            figures = decision_metrics(labels, *method_of(part), seed=seed)
            keys = ("n", "n_correct", "accuracy", "accuracy_interval", "auc", "auc_interval")
            result[name] = {key: figures[key] for key in keys}
    return result


def _types(lines: Lines, aliases: Mapping[str, str]) -> dict[str, Any] | None:
    """k-class accuracy of the method's verdict and the chosen answer's type; None where the benchmark gives no types.

    A verdict of real is the class of no forgery. A verdict of fake that names no forgery is no class at all.
    """
    if not any(line["forgery_type"] for line in lines):
        return None
    name_of = functools.cache(lambda text: canonical_type(text, aliases))
    none = name_of(NO_FORGERY)
    typed = [line for line in lines if line["label"] == "real" or line["forgery_type"]]
    classes, predicted = [], []
    for line in typed:
        classes.append(str(none if line["label"] == "real" else name_of(line["forgery_type"])))
        named = name_of(line["answers"][line["chosen"]].get("forgery_type")) if line["answers"] else None
        fake_class = named if line["verdict"] == "fake" and named != none else None
        predicted.append(none if line["verdict"] == "real" else fake_class)
    return typed_accuracy(classes, predicted)
