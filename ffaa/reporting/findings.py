"""What stands out in a run, in sentences with their counts: read before any table."""

from __future__ import annotations

from collections.abc import Sequence

from ffaa.metrics.detection import wilson_interval
from ffaa.reporting.grids import percent, with_interval
from ffaa.reporting.report_run import Run
from ffaa.types import Hypothesis, Verdict

SURE = 0.9
"""A P(fake) above this, or below one minus it, is called confident."""
_FEWEST = 5
"""A group of fewer pictures is not called the worst."""


def findings(run: Run) -> list[str]:
    """Sentences about one run; those whose numbers it lacks are left out."""
    found = [
        _against_commonest(run),
        _leaning(run),
        _worst_type(run),
        _confident_errors(run),
        _presumptions(run),
        _unread(run),
    ]
    return [sentence for sentence in found if sentence]


def worst_split(runs: Sequence[Run]) -> str | None:
    """The benchmark on which one system is least often right, by balanced accuracy; None for fewer than two."""
    known = [
        (figures["balanced_accuracy"], run.benchmark, figures["balanced_accuracy_interval"])
        for run in runs
        if (figures := run.summary["decisions"]["method"])["balanced_accuracy"] is not None
    ]
    if len(known) < 2:
        return None
    (low, worst, below), (high, best, above) = min(known), max(known)
    overlap = " Their 95 % intervals overlap." if below[1] >= above[0] else ""
    return f"Worst split: {worst}, balanced accuracy {percent(low)} %; best: {best}, {percent(high)} %.{overlap}"


def _against_commonest(run: Run) -> str | None:
    decisions = run.summary["decisions"]
    own, always = decisions["method"], decisions.get("majority_class")
    if own["accuracy"] is None or not always:
        return None
    low = own["accuracy_interval"][0]
    verdict = "Better than" if low > always["accuracy"] else "Not shown to be better than"
    return f"{verdict} always saying the commoner class ({percent(always['accuracy'])} %)."


def _leaning(run: Run) -> str | None:
    """Which of the two mistakes it makes; None for pictures of one class."""
    kinds = ("real", "fake")
    n = {kind: [line for line in run.done if line["label"] == kind] for kind in kinds}
    if not n["real"] or not n["fake"]:
        return None
    wrong = {
        kind: sum(line["verdict"] == other for line in n[kind])
        for kind, other in zip(kinds, reversed(kinds), strict=True)
    }
    return (
        f"Real pictures called fake: {wrong['real']} of {len(n['real'])}; "
        f"forged pictures called real: {wrong['fake']} of {len(n['fake'])}."
    )


def _worst_type(run: Run) -> str | None:
    parts = {name: part for name, part in (run.summary.get("by_type") or {}).items() if part["n"] >= _FEWEST}
    if len(parts) < 2:
        return None
    name, part = min(parts.items(), key=lambda item: item[1]["accuracy"])
    return f"Least often recognised: {name}, {part['n_correct']} of {part['n']} pictures."


def _confident_errors(run: Run) -> str | None:
    scores = [(line, line["score"] if line.get("probability") is None else line["probability"]) for line in run.done]
    sure = [(line, score) for line, score in scores if not 1 - SURE <= score <= SURE]
    if not sure:
        return None
    wrong = sum((score > 0.5) != (line["label"] == "fake") for line, score in sure)
    bounds = wilson_interval(wrong, len(sure))
    share = with_interval(wrong / len(sure), bounds)
    return (
        f"Where P(fake) is above {SURE:g} or below {1 - SURE:.1g}, it is on the wrong side on {wrong} of {len(sure)} "
        f"pictures ({share} %)."
    )


def _presumptions(run: Run) -> str | None:
    """How often the language model gives in to a presumption that its free answer contradicts."""
    turned = asked = 0
    for line in run.done:
        free = line["answers"][0]["verdict"]
        for answer in line["answers"][1:]:
            if answer["hypothesis"] in (Hypothesis.NONE, free) or free == Verdict.UNPARSED:
                continue
            asked += 1
            turned += answer["verdict"] == answer["hypothesis"]
    if not asked:
        return None
    share = with_interval(turned / asked, wilson_interval(turned, asked))
    return (
        f"Told to presume the opposite of its free answer, the language model follows on {turned} of {asked} pictures "
        f"({share} %)."
    )


def _unread(run: Run) -> str | None:
    answers = run.summary["answers"]
    if not answers["n_unparsed"] and not answers["n_unfinished"]:
        return None
    return (
        f"Of {answers['n']} answers {answers['n_unparsed']} state no verdict and {answers['n_unfinished']} were cut "
        "at the token limit."
    )
