"""What answers claim, as tables: against what is known of the pictures, and against reference texts.

Made of the figures that scripts/score_answers.py keeps in ``explanation.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ffaa.reporting.grids import Estimate, Grid, counted, estimate, percent, with_counts

Figures = Mapping[str, Any]

_WAYS = ("free", "chosen")


def claims_grid(figures: Figures, title: str, name: str) -> Grid:
    """How true the free answers and the chosen ones are and how whole, beside what no look at the picture scores.

    Without ``answers``, where nothing is known of the pictures, only how whole they are.
    """
    rows: list[list[str]] = []
    estimates: list[Estimate | None] = []

    def add(claim: str, found: Sequence[Figures], blind: str = "") -> None:
        rows.append([claim, *map(with_counts, found), blind])
        estimates.append(estimate(found[-1]["accuracy"], found[-1]["accuracy_interval"]))

    if "answers" in figures:
        both = [figures["answers"][way] for way in _WAYS]
        free = both[0]
        for slot in free["facts"]:
            add(slot, [one["facts"][slot] for one in both], percent(free["facts"][slot]["majority"]))
        add("sign of forgery", [one["signs"] for one in both], percent(free["signs"]["majority"]))
        for sign in free["by_sign"]:
            add(f"sign: {sign}", [one["by_sign"][sign] for one in both])
        if free["regions"]["recall"]["n"]:
            blind = f"{percent(free['regions']['most_frequent'])}, chance {percent(free['regions']['chance'])}"
            add("edited part, precision", [one["regions"]["precision"] for one in both])
            add("edited part, recall", [one["regions"]["recall"] for one in both], blind)
            for part in free["regions"]["by_part"]:
                add(f"edited part: {part}", [one["regions"]["by_part"][part] for one in both])
            done = [one["operations"] for one in both]
            add("what was done to the part", done, percent(done[0]["majority"]))
        add("reasoning against verdict", [one["contradictions"] for one in both])
    add("all fields filled", [figures["form"][way]["complete"] for way in _WAYS])
    columns = ["claim", "free answer", "chosen answer", "without looking"]
    note = f"In %, [95 % interval], (right / counted); drawn: the chosen answer. {hypotheses_line(figures)}"
    return Grid(name, title, columns, rows, estimates, note=note, caption="What the answers claim")


def can_be_drawn(figures: Figures) -> bool:
    """Whether a file's figures have all that the tables show: it may be edited, or of an earlier version."""
    try:
        claims_grid(figures, "", "claims")
        references_grid(figures, "", "references")
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def hypotheses_line(figures: Figures) -> str:
    """What presumed verdicts do to the answers."""
    effect = {key: with_counts(figure) for key, figure in figures["hypotheses"].items()}
    return (
        f"A wrong presumption turns a right free verdict: {effect['wrong_flips']}; the truth mends a wrong one: "
        f"{effect['right_mends']}; the answers disagree: {effect['disagree']}."
    )


def references_grid(figures: Figures, title: str, name: str) -> Grid | None:
    """What answers share with reference texts, beside a constant answer and those of other pictures.

    None where no picture has a reference.
    """
    if not figures["text"]:
        return None
    free, chosen = figures["text"]["free"], figures["text"]["chosen"]
    rows = []
    for metric, scores in free["scores"].items():
        ways = (scores["value"], chosen["scores"][metric]["value"], scores["constant"], scores["shuffled"])
        rows.append([metric, *("–" if value is None else f"{value:.3f}" for value in ways)])
    columns = ["metric", "free answer", "chosen answer", "constant", "shuffled"]
    note = (
        f"References: {figures['references']}. Constant: the commonest answer, for every picture; shuffled: another's."
    )
    title = f"{title}: {counted(free['n'], 'reference')}"
    return Grid(name, title, columns, rows, note=note, caption="What the answers share with references")
