from __future__ import annotations

from pathlib import Path
from typing import Any

from ffaa.metrics.detection import summarize
from ffaa.reporting.findings import findings, worst_split
from ffaa.reporting.gallery import (
    AGAINST_MAJORITY,
    ANSWERS_DIFFER,
    FOLLOWS,
    RUNS_DIFFER,
    SCORE_AGAINST,
    disagreements,
)
from ffaa.reporting.report_run import Run, by_system, labels_of, letter
from tests.reporting.toy_results import toy_lines


def run_of(lines: list[dict[str, Any]], benchmark: str = "free_toy", **config: Any) -> Run:
    return Run(Path("results") / benchmark / config.get("model", "run"), benchmark, lines, summarize(lines), config)


def test_what_stands_out_is_counted() -> None:
    lines = toy_lines(60)
    said = " ".join(findings(run_of(lines)))
    wrong = [sum(x["label"] == label and x["verdict"] != label for x in lines) for label in ("real", "fake")]
    assert f"Real pictures called fake: {wrong[0]} of 30; forged pictures called real: {wrong[1]} of 30." in said
    turned = sum(
        a["verdict"] != x["verdict"] for x in lines for a in x["answers"][1:] if a["hypothesis"] != x["verdict"]
    )
    assert (
        f"follows on {turned} of 60 pictures" in said
        and "Better than always saying the commoner class (50.0 %)" in said
    )
    sure = [x for x in lines if not 0.1 <= x["score"] <= 0.9]
    assert f"of {len(sure)} pictures" in said and "state no verdict" not in said
    lines[0]["answers"][0]["verdict"] = "unparsed"
    assert "Of 180 answers 1 state no verdict and 0 were cut" in " ".join(findings(run_of(lines)))


def test_nothing_stands_out_of_nothing() -> None:
    failed = {"id": "a", "label": "real", "status": "failed", "error": "x"}
    assert findings(run_of([failed])) == []
    assert worst_split([run_of(toy_lines(4))]) is None


def test_the_worst_split_is_the_one_with_the_least_balanced_accuracy() -> None:
    lines = toy_lines(20)
    bad = [line | {"verdict": "fake"} for line in lines]
    line = worst_split([run_of(lines, "free_a"), run_of(bad, "free_b")])
    assert line is not None and line.startswith("Worst split: free_b, balanced accuracy 50.0 %")
    same = worst_split([run_of(lines, "free_a"), run_of(lines, "free_b")])
    assert same is not None and same.endswith("Their 95 % intervals overlap.")


def test_kinds_of_disagreement() -> None:
    line = toy_lines(1)[0] | {"score": 0.2, "probability": 0.2, "verdict": "real"}

    def kinds(verdicts: str, differing: bool = False, **changes: Any) -> list[int]:
        words = {"r": "real", "f": "fake", "u": "unparsed"}
        answers = [a | {"verdict": words[v]} for a, v in zip(line["answers"], verdicts, strict=True)]
        return disagreements(line | {"answers": answers} | changes, differing=differing)

    assert kinds("rrr") == [] and kinds("rrr", differing=True) == [RUNS_DIFFER]
    assert kinds("rrf") == [ANSWERS_DIFFER, FOLLOWS]
    assert kinds("ffr") == [ANSWERS_DIFFER, AGAINST_MAJORITY]
    assert kinds("rrr", probability=0.7) == [SCORE_AGAINST]
    assert kinds("rrr", probability=None, score=0.7) == [SCORE_AGAINST]
    assert kinds("uuu", verdict="unparsed") == []


def test_runs_are_told_apart_and_systems_put_together() -> None:
    lines = toy_lines(4)
    runs = [
        run_of(lines, "free_a", method="ffaa", model="mini", seed=0, data="1"),
        run_of(lines, "free_b", method="ffaa", model="mini", seed=0, data="2", block_size=3),
        run_of(lines, "free_a", method="ffaa", model="mini", seed=1, generate_num=1),
    ]
    assert labels_of(runs) == ["A: FFAA (MIDS), mini", "B: FFAA (MIDS), mini", "C: FFAA (MIDS), mini, 1 answer"]
    assert labels_of(runs[:1]) == ["FFAA (MIDS), mini"]
    assert by_system(runs) == [{"free_a": 0, "free_b": 1}, {"free_a": 2}]
    assert [letter(index) for index in (0, 25, 26, 53)] == ["A", "Z", "A2", "B3"]
