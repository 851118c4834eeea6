from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
    roc_auc_score,
)

from ffaa.metrics.detection import (
    RANKING_FIGURES,
    balanced_interval,
    decision_metrics,
    overall,
    summarize,
    typed_accuracy,
    wilson_interval,
)


def line(
    label: str,
    verdicts: list[str],
    *,
    chosen: int = 0,
    score: float | None = 0.5,
    types: list[str | None] | None = None,
    forgery_type: str | None = None,
    verdict: str | None = None,
) -> dict[str, Any]:
    """A predictions line whose answers are ordered as FFAA orders them."""
    free = "real" if verdicts and verdicts[0] == "real" else "fake"
    hypotheses = ["none", "fake" if free == "real" else "real", free]
    answers = [
        {"verdict": said, "hypothesis": presumed, "score": None, "finished": True, "forgery_type": named}
        for said, presumed, named in zip(verdicts, hypotheses, types or ["None"] * 3, strict=False)
    ]
    return {
        "id": "x",
        "label": label,
        "forgery_type": forgery_type,
        "status": "ok",
        "error": None,
        "verdict": verdict or (verdicts[chosen] if verdicts else "unparsed"),
        "score": score,
        "chosen": chosen,
        "difficulty": None if len(verdicts) < 2 else "easy" if len(set(verdicts)) == 1 else "hard",
        "answers": answers,
    }


def failed(label: str) -> dict[str, Any]:
    return {"id": "y", "label": label, "forgery_type": None, "status": "failed", "error": "no face"}


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval(n_correct: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(n_correct, n) == pytest.approx((low, high), abs=1e-4)


def test_no_pictures_have_no_interval() -> None:
    assert wilson_interval(0, 0) is None
    assert balanced_interval((3, 0), (5, 0)) is None


def test_the_interval_of_the_balanced_accuracy_covers() -> None:
    rng = np.random.default_rng(0)
    p, n = (0.9, 0.6), (40, 70)
    hits = 0
    for correct in rng.binomial(n, p, size=(2000, 2)):
        low, high = balanced_interval((int(correct[0]), int(correct[1])), n) or (1.0, 0.0)
        hits += low <= 0.75 <= high
    assert 0.93 < hits / 2000 < 0.98


def test_decision_metrics_equal_scikit_learn() -> None:
    rng = random.Random(0)
    labels = [rng.choice(["real", "fake"]) for _ in range(300)]
    verdicts = [label if rng.random() < 0.7 else rng.choice(["real", "fake"]) for label in labels]
    scores = [round(min(1, max(0, rng.gauss(0.4 + 0.2 * (label == "fake"), 0.2))), 2) for label in labels]
    found = decision_metrics(labels, verdicts, scores)
    truth, said = [label == "fake" for label in labels], [verdict == "fake" for verdict in verdicts]
    assert found["accuracy"] == pytest.approx(np.mean(np.equal(truth, said)))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said))
    assert found["auc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert found["recall_fake"] == pytest.approx(recall_score(truth, said))
    assert found["recall_real"] == pytest.approx(recall_score(truth, said, pos_label=False))
    for name in ("accuracy", "balanced_accuracy", "auc", "average_precision", "recall_real", "recall_fake"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low < found[name] < high <= 1


def test_an_undecided_verdict_is_wrong_for_either_label() -> None:
    found = decision_metrics(["real", "fake", "real", "fake"], ["unparsed", "unparsed", "real", "fake"], None)
    assert (found["accuracy"], found["recall_real"], found["recall_fake"]) == (0.5, 0.5, 0.5)
    assert (found["n_unparsed"], found["unparsed"]) == (2, 0.5)


@pytest.mark.parametrize("label", ["real", "fake"])
def test_one_class_leaves_what_needs_two_undefined(label: str) -> None:
    found = decision_metrics([label] * 5, [label] * 4 + ["unparsed"], [0.5] * 5)
    other = "fake" if label == "real" else "real"
    assert found["accuracy"] == found[f"recall_{label}"] == 0.8
    for name in ("balanced_accuracy", "auc", "average_precision", f"recall_{other}"):
        assert found[name] is None and found[f"{name}_interval"] is None


def test_a_missing_score_ranks_in_the_middle_and_is_counted() -> None:
    found = decision_metrics(["real", "fake", "fake"], ["real", "fake", "fake"], [0.1, None, 0.9])
    assert (found["auc"], found["n_without_score"]) == (1.0, 1)
    found = decision_metrics(["real", "fake"], ["real", "fake"], [None, float("nan")])
    assert (found["auc"], found["n_without_score"]) == (None, 2)


def test_the_five_decisions_of_one_run() -> None:
    lines = [
        line("real", ["real", "real", "real"], score=0.2),
        line("real", ["fake", "real", "real"], chosen=1, score=0.6),
        line("fake", ["real", "fake", "fake"], chosen=0, score=0.7),
        line("fake", ["fake", "fake", "real"], chosen=0, score=0.9),
        line("fake", ["unparsed", "real", "fake"], chosen=2, score=0.4),
        failed("fake"),
    ]
    found = summarize(lines)
    assert (found["n"], found["n_failed"], found["n_real"], found["n_fake"]) == (5, 1, 2, 3)
    right = {name: figures["n_correct"] for name, figures in found["decisions"].items()}
    assert right == {
        "method": 4,  # the third chose the wrong answer
        "free_answer": 2,  # the first and the fourth
        "majority_vote": 4,  # the last is a tie that its unparsed free answer does not break
        "score_threshold": 3,
        "majority_class": 3,
    }
    assert found["decisions"]["method"]["auc"] == pytest.approx(5 / 6)
    assert found["decisions"]["majority_class"]["auc"] == 0.5
    assert found["decisions"]["majority_class"]["recall_fake"] == 1.0
    assert found["decisions"]["free_answer"]["auc"] is None
    assert found["answers"] == {"n": 15, "n_unparsed": 1, "unparsed": pytest.approx(1 / 15), "n_unfinished": 0}
    chosen = {name: (part["n_correct"], part["n"]) for name, part in found["by_chosen"].items()}
    assert chosen == {"free": (2, 3), "opposite": (1, 1), "same": (1, 1)}
    difficulty = {name: (part["n_correct"], part["n"]) for name, part in found["by_difficulty"].items()}
    assert difficulty == {"easy": (1, 1), "hard": (3, 4)}
    assert found["types"] is None
    json.dumps(found, allow_nan=False)


def test_the_summary_does_not_depend_on_the_order_of_lines() -> None:
    rng = random.Random(2)
    lines = [
        line(
            rng.choice(["real", "fake"]),
            [rng.choice(["real", "fake", "unparsed"]) for _ in range(3)],
            score=rng.random(),
        )
        for _ in range(50)
    ]
    assert summarize(lines) == summarize(rng.sample(lines, len(lines)))


@pytest.mark.parametrize("lines", [[], [failed("real")]])
def test_a_run_without_a_scored_picture_has_no_figures(lines: list[dict[str, Any]]) -> None:
    found = summarize(lines)
    assert (found["n"], found["n_failed"]) == (0, len(lines))
    assert found["decisions"]["method"]["accuracy"] is None
    assert found["by_difficulty"] == {}
    json.dumps(found, allow_nan=False)


def test_a_method_without_answers_is_scored_too() -> None:
    found = summarize([line("real", [], score=0.1, verdict="real"), line("fake", [], score=0.8, verdict="fake")])
    assert found["decisions"]["method"]["accuracy"] == 1.0
    assert found["decisions"]["free_answer"]["unparsed"] == 1.0
    assert found["answers"]["unparsed"] is None


def test_types_are_scored_where_the_benchmark_gives_them() -> None:
    swap, edit = "Identity swap", "Local edit"
    lines = [
        line("real", ["real"]),
        line("real", ["fake"], types=["None"]),
        line("fake", ["fake"], types=["face-swap."], forgery_type=swap),
        line("fake", ["fake"], types=[edit], forgery_type=swap),
        line("fake", ["fake"], types=["None"], forgery_type=edit),
        line("fake", ["real"], types=[edit], forgery_type=edit),
        line("fake", ["unparsed"], types=[None], forgery_type=edit),
    ]
    found = summarize(lines)["types"]
    assert (found["n_correct"], found["n"], found["n_classes"]) == (2, 7, 3)
    assert found["confusion"] == {
        "identity swap": {"identity swap": 1, "local edit": 1},
        "local edit": {"none": 1, "unnamed": 2},
        "none": {"none": 1, "unnamed": 1},
    }
    assert found["by_class"]["none"]["accuracy"] == 0.5


def test_an_answer_without_the_field_of_its_type_names_none() -> None:
    one = line("fake", ["fake"], types=["Identity swap"], forgery_type="Identity swap")
    del one["answers"][0]["forgery_type"]
    assert summarize([one])["types"]["n_correct"] == 0


def test_typed_accuracy_of_nothing() -> None:
    assert typed_accuracy([], [])["accuracy"] is None


def test_the_published_means_and_spreads() -> None:
    """The published row of FFAA: mean 86.5; 10.8 over the six, 10.0 as printed with an in-domain accuracy near 89."""
    six = {"dpf": 94.2, "dfd": 82.7, "dfdc": 65.0, "pgc": 91.8, "wfir": 98.2, "mffdi": 87.1}
    assert overall(six, apart="ma") == {"mean": pytest.approx(86.5), "spread": pytest.approx(10.8, abs=0.05)}
    seven = overall({**six, "ma": 89.0}, apart="ma")
    assert seven["mean"] == pytest.approx(86.5)
    assert seven["spread_with_ma"] == pytest.approx(10.0, abs=0.05)


def test_calibrated_lines_are_scored_by_their_probability_and_certainty() -> None:
    lines = [
        {**line("fake", ["fake"], verdict="fake"), "probability": 0.95, "uncertain": False},
        {**line("fake", ["real"], verdict="real"), "probability": 0.55, "uncertain": True},
        {**line("real", ["real"], verdict="real"), "probability": 0.05, "uncertain": False},
        {**line("real", ["real"], verdict="real"), "probability": 0.45, "uncertain": True},
    ]
    summary = summarize(lines)
    assert summary["decisions"]["calibrated"]["accuracy"] == 1.0 and summary["decisions"]["calibrated"]["auc"] == 1.0
    calibration = summary["calibration"]
    assert (calibration["certain"]["n_correct"], calibration["certain"]["n"]) == (2, 2)
    assert (calibration["uncertain"]["n_correct"], calibration["uncertain"]["n"]) == (1, 2)
    assert calibration["expected_calibration_error"] == pytest.approx((0.05 + 0.45 + 0.05 + 0.45) / 4)
    plain = summarize([line("fake", ["fake"])])
    assert "calibrated" not in plain["decisions"] and plain["calibration"] is None


def test_what_is_undefined_says_why() -> None:
    for labels, reason in ((["real", "real"], "no fake pictures"), ([], "no real and no fake pictures")):
        found = decision_metrics(labels, labels, [0.2] * len(labels))
        assert found["equal_error_rate"] is None and found["undefined"]["auc"] == reason
        assert set(found["undefined"]) == {
            name for name in (*RANKING_FIGURES, "accuracy", "balanced_accuracy", "recall_real", "recall_fake")
            if found[name] is None
        }  # fmt: skip
    unscored = decision_metrics(["real", "fake"], ["real", "fake"], None)
    assert unscored["undefined"] == dict.fromkeys(RANKING_FIGURES, "this decision has no score")
    assert decision_metrics(["real", "fake"], ["real", "fake"], [0.1, 0.9])["undefined"] == {}


def test_confusion_equals_scikit_learn() -> None:
    rng = random.Random(4)
    labels = [rng.choice(["real", "fake"]) for _ in range(60)]
    verdicts = [rng.choice(["real", "fake", "unparsed", "maybe"]) for _ in labels]
    known = ["real", "fake", "unparsed"]
    read = [verdict if verdict in known else "unparsed" for verdict in verdicts]
    expected = confusion_matrix(labels, read, labels=known)[:2].tolist()
    found = decision_metrics(labels, verdicts, None)["confusion"]
    assert [[found[label][verdict] for verdict in known] for label in ("real", "fake")] == expected


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("grouped", [False, True])
def test_few_pictures_and_constant_scores_are_no_crash_and_no_nan(n: int, grouped: bool) -> None:
    lines = [
        {**line("fake" if i else "real", ["fake"], score=0.5), "id": str(i), "group": f"g{i}" if grouped else None}
        for i in range(n)
    ]
    text = json.dumps(summarize(lines, threshold=0.4), allow_nan=False)
    found = json.loads(text)
    assert found["decisions"]["validated"]["n"] == n and found["threshold"] == 0.4
    if n == 2:
        assert found["decisions"]["method"]["auc"] == 0.5 and found["decisions"]["method"]["equal_error_rate"] == 0.5


def test_a_threshold_from_elsewhere_is_a_decision_of_its_own() -> None:
    lines = [line("real", ["real"], score=0.3), line("fake", ["real"], score=0.45), line("fake", ["fake"], score=0.9)]
    assert "validated" not in summarize(lines)["decisions"]
    assert summarize(lines, threshold=0.4)["decisions"]["validated"]["n_correct"] == 3


def test_reliability_and_roc_are_there_for_a_report() -> None:
    lines = [line("real", ["real"], score=0.05), line("fake", ["fake"], score=1.0), line("real", ["fake"], score=0.97)]
    found = summarize(lines)
    bins = found["reliability"]["method"]["bins"]
    assert [one["n"] for one in bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[9]["fake"] == 0.5 and bins[9]["stated"] == pytest.approx(0.985) and bins[1]["fake"] is None
    assert found["reliability"]["method"]["expected_calibration_error"] == pytest.approx((0.05 + 2 * 0.485) / 3)
    assert found["roc"]["method"] == [[0.0, 0.0, None], [0.0, 1.0, 1.0], [0.5, 1.0, 0.97], [1.0, 1.0, 0.05]]
