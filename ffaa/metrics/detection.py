"""Real or fake: all figures of a run with their 95 % intervals, from the lines of its predictions file.

Fake is the positive class (1) and scores are P(fake). An undecided verdict counts as wrong, never as either class. A
figure that is not defined, such as the AUC of one class, is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffaa.dialogue.answers import NO_FORGERY, TYPE_ALIASES, canonical_type
from ffaa.metrics.calibration import expected_calibration_error
from ffaa.metrics.ranking import Interval, average_precision, bootstrap_intervals, roc_auc
from ffaa.types import Hypothesis, Verdict

_Z95 = 1.959963984540054


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
    labels: Sequence[str], verdicts: Sequence[str], scores: Sequence[float | None] | None, *, seed: int = 0
) -> dict[str, Any]:
    """All figures of one way to decide.

    Args:
        labels: (n,) ``real`` or ``fake``.
        verdicts: (n,) ``real``, ``fake`` or anything else, which is wrong and counted in ``n_unparsed``.
        scores: (n,) P(fake), or None where there is none; ranked as 0.5 and counted in ``n_without_score``. None in
            place of the list, or a list of None only: the decision has no score, and no AUC and AP.
        seed: of the bootstrap.

    Returns:
        Shares within 0..1, intervals as (low, high), None where undefined.
    """
    correct = [label == verdict for label, verdict in zip(labels, verdicts, strict=True)]
    n_of = {kind: labels.count(kind) for kind in ("real", "fake")}
    right = {kind: sum(c for c, label in zip(correct, labels, strict=True) if label == kind) for kind in n_of}
    recall = {kind: share(right[kind], n_of[kind]) for kind in n_of}
    balanced = (right["real"] / n_of["real"] + right["fake"] / n_of["fake"]) / 2 if min(n_of.values()) else None
    n_unparsed = sum(verdict not in n_of for verdict in verdicts)
    return {
        **share(sum(correct), len(labels)),
        "balanced_accuracy": balanced,
        "balanced_accuracy_interval": balanced_interval((right["real"], right["fake"]), (n_of["real"], n_of["fake"])),
        **_ranking_metrics(labels, scores, seed),
        "recall_real": recall["real"]["accuracy"],
        "recall_real_interval": recall["real"]["accuracy_interval"],
        "recall_fake": recall["fake"]["accuracy"],
        "recall_fake_interval": recall["fake"]["accuracy_interval"],
        "n_real": n_of["real"],
        "n_fake": n_of["fake"],
        "n_unparsed": n_unparsed,
        "unparsed": n_unparsed / len(labels) if labels else None,
    }


def _ranking_metrics(labels: Sequence[str], scores: Sequence[float | None] | None, seed: int) -> dict[str, Any]:
    known = [score is not None and bool(np.isfinite(score)) for score in scores or []]
    truth: list[bool] = [label == "fake" for label in labels] if any(known) else []
    values = [score if ok else 0.5 for score, ok in zip(scores or [], known, strict=True)] if any(known) else []
    ranked = np.array(values, dtype=np.float64)
    intervals = bootstrap_intervals(truth, ranked, seed=seed)
    return {
        "auc": roc_auc(truth, ranked),
        "auc_interval": intervals["auc"],
        "average_precision": average_precision(truth, ranked),
        "average_precision_interval": intervals["average_precision"],
        "n_without_score": len(labels) - sum(known),
    }


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
    predictions: Sequence[Mapping[str, Any]], *, type_aliases: Mapping[str, str] = TYPE_ALIASES, seed: int = 0
) -> dict[str, Any]:
    """All figures of a run from the lines of its ``predictions.jsonl`` alone.

    Pictures that failed are counted in ``n_failed`` and enter no figure.

    Args:
        predictions: lines as mappings, in any order.
        type_aliases: casefolded spellings of forgery types, see :func:`ffaa.dialogue.answers.canonical_type`.
        seed: of the bootstrap.

    Returns:
        A JSON-ready dict: counts; ``decisions``: one :func:`decision_metrics` for each of ``method`` (its own
        decision), ``free_answer``, ``opening`` (its first deciding token, where the answers have one),
        ``majority_vote``, ``score_threshold`` (score > 0.5), ``calibrated`` (calibrated P(fake) > 0.5, where the lines
        have one) and ``majority_class``; ``answers`` (how many, unparsed, cut); ``calibration``: its expected
        calibration error, and the method's accuracy where it is certain and where it is not; ``by_chosen``,
        ``by_difficulty``, ``by_type`` and ``types`` where the lines hold what they need, else empty or None.
    """
    done = [line for line in predictions if line["status"] == "ok"]
    labels = [line["label"] for line in done]
    decisions = {
        name: decision_metrics(labels, *decide(done), seed=seed)
        for name, decide in {
            "method": _method,
            "free_answer": _free_answer,
            **({"opening": _opening} if _have_openings(done) else {}),
            "majority_vote": _majority_vote,
            "score_threshold": _score_threshold,
            **({"calibrated": _calibrated} if _are_calibrated(done) else {}),
            "majority_class": _majority_class,
        }.items()
    }
    answers = [answer for line in done for answer in line["answers"]]
    n_unparsed = sum(answer["verdict"] == Verdict.UNPARSED for answer in answers)
    return {
        "n": len(done),
        "n_failed": len(predictions) - len(done),
        "n_real": labels.count("real"),
        "n_fake": labels.count("fake"),
        "decisions": decisions,
        "answers": {
            "n": len(answers),
            "n_unparsed": n_unparsed,
            "unparsed": n_unparsed / len(answers) if answers else None,
            "n_unfinished": sum(not answer["finished"] for answer in answers),
        },
        "by_chosen": _accuracy_by(done, _chosen_kind),
        "by_difficulty": _by_difficulty(done, seed),
        "by_type": _accuracy_by(done, lambda line: line["forgery_type"]),
        "calibration": _calibration(done) if _are_calibrated(done) else None,
        "types": _types(done, type_aliases),
    }


Lines = Sequence[Mapping[str, Any]]
Decided = tuple[list[str], list[float | None] | None]


def _method(lines: Lines) -> Decided:
    return [line["verdict"] for line in lines], [line["score"] for line in lines]


def _free_answer(lines: Lines) -> Decided:
    first = [line["answers"][0] if line["answers"] else None for line in lines]
    return [a["verdict"] if a else Verdict.UNPARSED for a in first], [a["score"] if a else None for a in first]


def _have_openings(lines: Lines) -> bool:
    return any(answer.get("opening_score") is not None for line in lines for answer in line["answers"][:1])


def _opening(lines: Lines) -> Decided:
    """P(fake) at the free answer's first token that decides: a language model's verdict before it gives reasons."""
    scores = [line["answers"][0].get("opening_score") if line["answers"] else None for line in lines]
    return _by_score(scores)


def _majority_vote(lines: Lines) -> Decided:
    """Most answers' verdict, the first answer's on a tie; scored by the share of parsed answers that say fake."""
    verdicts: list[str] = []
    scores: list[float | None] = []
    for line in lines:
        said = [answer["verdict"] for answer in line["answers"]]
        fake, real = said.count("fake"), said.count("real")
        first = said[0] if said else Verdict.UNPARSED
        verdicts.append("fake" if fake > real else "real" if real > fake else first)
        scores.append(fake / (fake + real) if fake + real else None)
    return verdicts, scores


def _score_threshold(lines: Lines) -> Decided:
    scores = [line["score"] for line in lines]
    return _by_score(scores)


def _are_calibrated(lines: Lines) -> bool:
    return any(line.get("probability") is not None for line in lines)


def _calibrated(lines: Lines) -> Decided:
    scores = [line.get("probability") for line in lines]
    return _by_score(scores)


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


def _majority_class(lines: Lines) -> Decided:
    """The commoner label for every picture (fake on a tie): what a detector must beat."""
    n_fake = sum(line["label"] == "fake" for line in lines)
    return ["fake" if 2 * n_fake >= len(lines) else "real"] * len(lines), [0.5] * len(lines)


def _by_score(scores: list[float | None]) -> Decided:
    """Fake above 0.5; what has no score has no verdict."""
    return ["fake" if s > 0.5 else "real" if s <= 0.5 else "unparsed" for s in map(_number, scores)], scores


def _number(score: float | None) -> float:
    return float("nan") if score is None else score


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
            figures = decision_metrics(labels, *_method(part), seed=seed)
            keys = ("n", "n_correct", "accuracy", "accuracy_interval", "auc", "auc_interval")
            result[name] = {key: figures[key] for key in keys}
    return result


def _types(lines: Lines, aliases: Mapping[str, str]) -> dict[str, Any] | None:
    """k-class accuracy of the method's verdict and the chosen answer's type; None where the benchmark gives no types.

    A verdict of real is the class of no forgery. A verdict of fake that names no forgery is no class at all.
    """
    if not any(line["forgery_type"] for line in lines):
        return None
    none = canonical_type(NO_FORGERY, aliases)
    typed = [line for line in lines if line["label"] == "real" or line["forgery_type"]]
    classes, predicted = [], []
    for line in typed:
        classes.append(str(none if line["label"] == "real" else canonical_type(line["forgery_type"], aliases)))
        named = canonical_type(line["answers"][line["chosen"]]["forgery_type"], aliases) if line["answers"] else None
        fake_class = named if line["verdict"] == "fake" and named != none else None
        predicted.append(none if line["verdict"] == "real" else fake_class)
    return typed_accuracy(classes, predicted)
