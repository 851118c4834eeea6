"""The tables of a report: scores by decision and group, over splits, of runs against one another, under corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from ffaa.metrics.comparison import delong, mcnemar
from ffaa.metrics.detection import overall
from ffaa.reporting.grids import Grid, estimate, percent, signed, slug, with_interval
from ffaa.reporting.report_run import Run, by_benchmark, letter
from ffaa.reporting.tables import DECISIONS, GENERALISATION, IN_DOMAIN, METHOD_TITLES

PAIRS_OF_ALL = 4
"""With more runs on a benchmark than so many, each is compared with the first only."""

REAL_SETS = "OW-FFA-Bench"


def score_grid(runs: Sequence[Run], labels: Sequence[str]) -> Grid:
    """Every run's own decision."""
    rows, estimates = [], []
    with_eer = any("equal_error_rate" in run.summary["decisions"]["method"] for run in runs)
    for run, label in zip(runs, labels, strict=True):
        figures = run.summary["decisions"]["method"]
        eer = [percent(figures.get("equal_error_rate"))] if with_eer else []
        rows.append([run.benchmark, label, *_cells(figures), *eer, *_counts(figures)])
        estimates.append(estimate(figures["accuracy"], figures["accuracy_interval"]))
    columns = ["benchmark", "run", *_FIGURES, *(["EER"] if with_eer else []), *_COUNTS]
    note = "In %, [95 % interval]. Fake is the positive class; an answer without a verdict counts as wrong."
    return Grid("scores", "Scores", columns, rows, estimates, note=note, n_text=2)


_FIGURES = ("ACC", "bACC", "AUC", "AP", "recall real", "recall fake")
_COUNTS = ("real / fake", "not read")


def _cells(figures: Mapping[str, Any]) -> list[str]:
    return [
        with_interval(figures["accuracy"], figures["accuracy_interval"]),
        percent(figures["balanced_accuracy"]),
        with_interval(figures["auc"], figures["auc_interval"]),
        *(percent(figures[key]) for key in ("average_precision", "recall_real", "recall_fake")),
    ]


def _counts(figures: Mapping[str, Any]) -> list[str]:
    return [f"{figures['n_real']} / {figures['n_fake']}", str(figures["n_unparsed"])]


def decision_titles(run: Run) -> dict[str, str]:
    """What each way to decide of a run is called."""
    threshold = run.summary.get("threshold")
    words = {
        "method": METHOD_TITLES.get(run.method, run.method) or "its own decision",
        "threshold": "" if threshold is None else f"{threshold:.3f}",
    }
    return {key: DECISIONS.get(key, key).format_map(words) for key in run.summary["decisions"]}


def decisions_grid(run: Run, label: str, name: str) -> Grid:
    """All ways to decide from one run's answers."""
    found = run.summary["decisions"]
    names = decision_titles(run)
    order = [*(key for key in DECISIONS if key in found), *(key for key in found if key not in DECISIONS)]
    return Grid(
        f"{name}-decisions",
        f"Ways to decide: {run.benchmark}, {label}",
        ["decision", *_FIGURES, *_COUNTS],
        [[names[key], *_cells(found[key]), *_counts(found[key])] for key in order],
        [estimate(found[key]["accuracy"], found[key]["accuracy_interval"]) for key in order],
        note="The same answers to the same pictures, decided in different ways; in %, [95 % interval].",
        caption="Ways to decide",
        strong=order.index("method"),
    )


GROUPS = {"by_type": "forgery type", "by_difficulty": "difficulty", "by_chosen": "chosen answer"}


def groups_grid(run: Run, label: str, name: str) -> Grid | None:
    """Accuracy by forgery type, difficulty, chosen answer and certainty; None where no picture has any."""
    rows: list[list[str]] = []
    estimates = []
    groups = {title: run.summary.get(key) or {} for key, title in GROUPS.items()}
    if calibration := run.summary.get("calibration"):
        groups["certainty"] = {"sure": calibration["certain"], "not sure": calibration["uncertain"]}
    for title, parts in groups.items():
        for part, figures in parts.items():
            share = with_interval(figures["accuracy"], figures["accuracy_interval"])
            rows.append([f"{title}: {part}", share, f"{figures['n_correct']} / {figures['n']}"])
            estimates.append(estimate(figures["accuracy"], figures["accuracy_interval"]))
    if not rows:
        return None
    note = (
        "Difficulty is easy where a picture's answers give one verdict, hard where they differ. Intervals are over "
        "pictures, whoever they show."
    )
    title = f"Accuracy by group: {run.benchmark}, {label}"
    columns = ["group", "ACC", "right / pictures"]
    return Grid(f"{name}-groups", title, columns, rows, estimates, note=note, caption="Accuracy by group")


def subgroups_grid(run: Run, label: str, name: str) -> Grid | None:
    """Errors by age, sex, skin tone or what else is known of people; None where it was not counted."""
    rows, estimates = [], []
    for attribute, groups in run.subgroups.get("attributes", {}).items():
        for group, figures in groups.items():
            shares = [with_interval(figures[key], figures[f"{key}_interval"]) for key in _BY_PEOPLE]
            apart = figures["differences"].get("accuracy")
            difference = "–" if apart is None else signed(*apart)
            counts = [str(figures["n_people"]), f"{figures['n_real']} / {figures['n_fake']}"]
            rows.append([f"{attribute}: {group}", *counts, *shares, difference])
            estimates.append(estimate(figures["accuracy"], figures["accuracy_interval"]))
    if not rows:
        return None
    words = decision_titles(run).get(run.subgroups["decision"], run.subgroups["decision"])
    note = f"Of the decision: {words}. Groups: {run.subgroups['source']}. {run.subgroups['caution']}"
    columns = ["people", "number", "real / fake", "ACC", "recall real", "recall fake", "ACC less others'"]
    title = f"By group of people: {run.benchmark}, {label}"
    return Grid(f"{name}-people", title, columns, rows, estimates, note=note, caption="By group of people")


_BY_PEOPLE = ("accuracy", "recall_real", "recall_fake")


def comparisons_grid(runs: Sequence[Run]) -> Grid | None:
    """Paired tests of runs on the same pictures: McNemar's of accuracy, DeLong's of AUC; None without a pair."""
    rows = []
    for benchmark, indices in by_benchmark(runs).items():
        pairs = list(combinations(indices, 2))
        if len(indices) > PAIRS_OF_ALL:
            pairs = [pair for pair in pairs if pair[0] == indices[0]]
        for first, second in pairs:
            rows.append([benchmark, f"{letter(first)} − {letter(second)}", *_compared(runs[first], runs[second])])
    if not rows:
        return None
    columns = ["benchmark", "runs", "pictures", "ACC", "p (McNemar)", "right alone", "AUC", "p (DeLong)"]
    note = (
        "Differences in points, [95 % interval]. McNemar's test is exact, with mid-p in brackets. The p are of one "
        "test each: with several pairs, hold them to a smaller level. Pictures count as independent: where several "
        "show one person or video, intervals are too narrow and p too small."
    )
    return Grid("comparisons", "Runs against one another", columns, rows, note=note, n_text=2)


def _compared(first: Run, second: Run) -> list[str]:
    """Of the pictures that both analysed and call by the same label."""
    others = {line["id"]: line for line in second.done}
    pairs = [(line, others[line["id"]]) for line in first.done if line["id"] in others]
    pairs = [(one, other) for one, other in pairs if one["label"] == other["label"]]
    right = [[line["verdict"] == line["label"] for line in side] for side in zip(*pairs, strict=True)] or [[], []]
    accuracy = mcnemar(right[0], right[1])
    ranking = delong(
        [one["label"] == "fake" for one, _ in pairs],
        [one["score"] for one, _ in pairs],
        [other["score"] for _, other in pairs],
    )
    of_accuracy = ["–"] * 3
    if accuracy is not None:
        alone = f"{accuracy.only_first} / {accuracy.only_second}"
        tested = f"{p_value(accuracy.p)} ({p_value(accuracy.mid_p)})"
        of_accuracy = [signed(accuracy.difference, accuracy.interval), tested, alone]
    of_ranking = ["–"] * 2 if ranking is None else [signed(ranking.difference, ranking.interval), p_value(ranking.p)]
    return [str(len(pairs)), *of_accuracy, *of_ranking]


def p_value(p: float | None) -> str:
    """Three decimals; a dash for none."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


@cache
def published() -> dict[str, Any]:
    """What papers print of the real OW-FFA-Bench: ``axes`` and ``systems``, see ``published.yaml``."""
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
    return found


def splits_grid(name: str, splits: Sequence[str], systems: Mapping[str, Mapping[str, Run]]) -> Grid:
    """Accuracy of each system (by label) on each split of a family.

    For the real sets of OW-FFA-Bench the mean over its six (ALL) and its spread (sACC) in both readings where all are
    there, and beside them what papers print; a circle marks what was read off a figure.
    """
    real = name == REAL_SETS
    columns = ["system", *splits, *(["ALL", "sACC, six", "sACC, with ma"] if real else [])]
    rows = []
    for label, of in systems.items():
        accuracies = {split: of[split].summary["decisions"]["method"]["accuracy"] for split in splits if split in of}
        cells = [percent(accuracies.get(split)) for split in splits]
        rows.append([label, *cells, *(_means(accuracies) if real else [])])
    note = "Accuracy in %."
    if real:
        rows += [_published_row(one, splits) for one in published()["systems"]]
        note += (
            " Below the runs, what was published (arXiv 2408.10072); ° was read off a figure, °° roughly. The "
            "published sACC fits the reading with ma best."
        )
    return Grid(f"splits-{slug(name)}", f"Splits of {name}", columns, rows, note=note)


def _means(accuracies: Mapping[str, float | None]) -> list[str]:
    named = {_plain(split): value for split, value in accuracies.items() if value is not None}
    if not all(split in named for split in GENERALISATION):
        return ["–"] * 3
    found = overall(named, apart=IN_DOMAIN)
    return [percent(found["mean"]), percent(found["spread"]), percent(found.get(f"spread_with_{IN_DOMAIN}"))]


def _published_row(system: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    values = {**system["accuracy"], "all": system["all"], "spread": system["spread"]}

    def cell(key: str) -> str:
        mark = "°°" if key in system.get("rough", ()) else "°" if key in system["digitised"] else ""
        return f"{values[key]:.1f}{mark}" if key in values else "–"

    return [
        f"{system['name']}, published",
        *(cell(_plain(split)) for split in splits),
        cell("all"),
        "–",
        cell("spread"),
    ]


def _plain(split: str) -> str:
    return IN_DOMAIN if split == "multiattack" else split


def families(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The benchmarks of each family, in the order in which they first come."""
    found: dict[str, list[str]] = {}
    for benchmark, indices in by_benchmark(runs).items():
        found.setdefault(runs[indices[0]].family, []).append(benchmark)
    return found


def robustness_grid(curves: Mapping[str, Mapping[str, Any]], name: str, title: str) -> Grid | None:
    """Accuracy and AUC under each corruption, a column a level; None without levels."""
    levels = sorted({level for curve in curves.values() for level in curve["levels"]})
    if not levels:
        return None
    rows = []
    for corruption, curve in curves.items():
        for key, figure in (("acc", "ACC"), ("auc", "AUC")):
            of_level = dict(zip(curve["levels"], curve.get(key) or [None] * len(curve["levels"]), strict=True))
            rows.append([f"{corruption}, {figure}", *(percent(of_level.get(level)) for level in levels)])
    columns = ["corruption", *("none" if not level else f"level {level:g}" for level in levels)]
    return Grid(f"robustness-{slug(name)}", f"Robustness: {title}", columns, rows, note="In %.")
