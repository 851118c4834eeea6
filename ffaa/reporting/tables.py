"""Summaries as tables for a terminal: decisions of one run, several benchmarks of a family, accuracy by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ffaa.metrics.detection import overall
from ffaa.reporting.grids import Grid, percent

DECISIONS = {
    "free_answer": "free answer",
    "opening": "free answer, first deciding token",
    "majority_vote": "majority vote",
    "method": "{method}",
    "score_threshold": "score > 0.5",
    "validated": "score > {threshold}, validated",
    "calibrated": "calibrated P(fake) > 0.5",
    "majority_class": "majority class",
}
"""Ways to decide, in the order of their rows."""

METHOD_TITLES = {"ffaa": "FFAA (MIDS)", "llava": "LLaVA"}

GENERALISATION = ("dpf", "dfd", "dfdc", "pgc", "wfir", "mffdi")
"""The six sets of OW-FFA-Bench whose mean is ALL."""
IN_DOMAIN = "ma"
_SAME = {"multiattack": IN_DOMAIN}


def make_console() -> Console:
    """A console on stdout; where that is no terminal, wide enough that no table is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def family(benchmark: str) -> str:
    """The family a benchmark belongs to; figures of different ones are never put together.

    ``OW-FFA-Bench`` for its seven sets, the part before the first underscore for others (``free``, ``mini``).
    """
    name = _SAME.get(benchmark, benchmark)
    return "OW-FFA-Bench" if name in (*GENERALISATION, IN_DOMAIN) else name.split("_", 1)[0]


def decisions_table(benchmark: str, summary: Mapping[str, Any], method: str) -> Table:
    """One row per way to decide on the same pictures, with 95 % intervals."""
    failed = f", {summary['n_failed']} failed" if summary["n_failed"] else ""
    title = f"{escape(benchmark)}: {summary['n']} pictures ({summary['n_real']} real, {summary['n_fake']} fake{failed})"
    table = _table(title, "decision")
    for key, name in DECISIONS.items():
        if key not in summary["decisions"]:
            continue
        threshold = summary.get("threshold")
        label = name.format(
            method=METHOD_TITLES.get(method, method), threshold="" if threshold is None else f"{threshold:.3f}"
        )
        table.add_row(label, *_cells(summary["decisions"][key]), style="bold" if key == "method" else None)
    return table


def benchmarks_table(summaries: Mapping[str, Mapping[str, Any]], method: str) -> Table:
    """The method's decision on several benchmarks of one family, and for OW-FFA-Bench the mean over its six sets.

    Raises:
        ValueError: the benchmarks are of different families.
    """
    families = {family(name) for name in summaries}
    if len(families) != 1:
        raise ValueError(f"benchmarks of different families in one table: {', '.join(sorted(families))}")
    table = _table(f"{families.pop()}: {METHOD_TITLES.get(method, method)}", "benchmark")
    decided = {_SAME.get(name, name): summary["decisions"]["method"] for name, summary in summaries.items()}
    for name, figures in decided.items():
        table.add_row(name, *_cells(figures))
    if all(name in decided for name in GENERALISATION):
        table.add_section()
        table.add_row("ALL (mean of six)", *_mean_cells([decided[name] for name in GENERALISATION]), style="bold")
    return table


def spread_line(summaries: Mapping[str, Mapping[str, Any]]) -> str | None:
    """sACC of OW-FFA-Bench in both readings, saying which; None unless its six sets are all there."""
    accuracies = {
        _SAME.get(name, name): summary["decisions"]["method"]["accuracy"] for name, summary in summaries.items()
    }
    if not all(accuracies.get(name) is not None for name in GENERALISATION):
        return None
    known = {name: value for name, value in accuracies.items() if value is not None and family(name) == "OW-FFA-Bench"}
    figures = overall(known, apart=IN_DOMAIN)
    line = f"sACC (population standard deviation): {percent(figures['spread'])} over the six sets"
    with_ma = figures.get(f"spread_with_{IN_DOMAIN}")
    return f"{line}, {percent(with_ma)} over the seven with {IN_DOMAIN}" if with_ma is not None else line


def group_lines(summary: Mapping[str, Any]) -> list[str]:
    """Accuracy by difficulty, by chosen answer and by type, and how many answers could not be read; what there is."""
    lines = []
    for title, key in (("difficulty", "by_difficulty"), ("chosen answer", "by_chosen"), ("forgery type", "by_type")):
        if parts := summary[key]:
            lines.append(f"by {title}: " + "; ".join(f"{name} {_share(part)}" for name, part in parts.items()))
    if types := summary["types"]:
        lines.append(f"{types['n_classes']}-class accuracy (no forgery and types): {_share(types)}")
    if calibration := summary.get("calibration"):
        error = calibration["expected_calibration_error"]
        lines.append(
            f"where it is certain {_share(calibration['certain'])}, elsewhere {_share(calibration['uncertain'])}; "
            f"expected calibration error {error:.3f}"
        )
    answers = summary["answers"]
    if answers["n"]:
        lines.append(
            f"answers: {answers['n']}, of them unparsed {answers['n_unparsed']} ({percent(answers['unparsed'])} %), "
            f"cut at the token limit {answers['n_unfinished']}"
        )
    return lines + _more_lines(summary)


def _more_lines(summary: Mapping[str, Any]) -> list[str]:
    """The equal error rate; where pictures have groups, how many and what their videos score."""
    method, lines = summary["decisions"]["method"], []
    if method.get("equal_error_rate") is not None:
        lines.append(f"equal error rate {percent(method['equal_error_rate'])}")
    groups = summary.get("groups") or {"n": 0}
    if groups["n"]:
        lines.append(f"intervals by {groups['n']} groups (people or videos)")
    for way, name in (("mean", "mean"), ("trimmed_mean", "trimmed mean")):
        if videos := groups.get("videos"):
            auc = _with_interval(videos[way]["auc"], videos[way]["auc_interval"])
            lines.append(f"videos by the {name} of their frames: {_share(videos[way])}, AUC {auc}")
    return lines


def grid_table(grid: Grid) -> Table:
    """A grid for a terminal, with its title."""
    table = _titled(escape(grid.title))
    for index, column in enumerate(grid.columns):
        table.add_column(escape(column), justify="left" if index < grid.n_text else "right")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def _titled(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )


def _table(title: str, first: str) -> Table:
    # On a narrow terminal the interval goes below its figure; nothing is cut.
    table = _titled(title)
    table.add_column(first, min_width=8)
    for heading in (
        "ACC\n[95 %]",
        "bACC",
        "AUC\n[95 %]",
        "AP",
        "recall\nreal",
        "recall\nfake",
        "real /\nfake",
        "not\nread",
    ):
        table.add_column(heading, justify="right", min_width=len("[90.1-99.9]") if "95" in heading else None)
    return table


def _cells(figures: Mapping[str, Any]) -> list[str]:
    return [
        _with_interval(figures["accuracy"], figures["accuracy_interval"]),
        percent(figures["balanced_accuracy"]),
        _with_interval(figures["auc"], figures["auc_interval"]),
        *(percent(figures[key]) for key in ("average_precision", "recall_real", "recall_fake")),
        f"{figures['n_real']} / {figures['n_fake']}",
        str(figures["n_unparsed"]),
    ]


def _mean_cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Unweighted means; a figure that one benchmark lacks has none."""
    cells = []
    for key in ("accuracy", "balanced_accuracy", "auc", "average_precision", "recall_real", "recall_fake"):
        values = [row[key] for row in rows]
        cells.append(percent(None if None in values else sum(values) / len(values)))
    total = {key: sum(row[key] for row in rows) for key in ("n_real", "n_fake", "n_unparsed")}
    return [*cells, f"{total['n_real']} / {total['n_fake']}", str(total["n_unparsed"])]


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """No space inside the interval: a narrow terminal breaks the line before it."""
    return percent(value) if interval is None else f"{percent(value)} [{percent(interval[0])}-{percent(interval[1])}]"


def _share(part: Mapping[str, Any]) -> str:
    return f"{_with_interval(part['accuracy'], part['accuracy_interval'])} ({part['n_correct']}/{part['n']})"
