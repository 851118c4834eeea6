"""What a report says about some runs, section by section, as the page's template takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ffaa.metrics.calibration import expected_calibration_error, reliability_bins
from ffaa.metrics.curves import roc_curve
from ffaa.reporting import charts
from ffaa.reporting.charts import Series
from ffaa.reporting.claims import claims_grid, references_grid
from ffaa.reporting.findings import findings, worst_split
from ffaa.reporting.grids import Grid, counted, percent, slug, with_interval
from ffaa.reporting.report_run import Run, by_benchmark, by_system
from ffaa.reporting.report_tables import (
    REAL_SETS,
    comparisons_grid,
    decision_titles,
    decisions_grid,
    families,
    groups_grid,
    published,
    robustness_grid,
    score_grid,
    splits_grid,
    subgroups_grid,
)
from ffaa.types import Verdict

MOST_READOUTS = 2
"""With more runs than so many, what stands out in each stands in its own section."""

Curves = Mapping[str, Mapping[str, Any]]
"""Corruption -> ``levels, acc, auc``, as scripts/robustness.py writes them."""


@dataclass
class Content:
    """What the template is filled with; ``grids`` collects every table that it shows."""

    runs: Sequence[Run]
    labels: Sequence[str]
    grids: list[Grid] = field(default_factory=list)

    def keep(self, grid: Grid | None) -> Grid | None:
        """Remember a table that is shown, under a name of its own."""
        if grid is None:
            return None
        taken = {one.name for one in self.grids}
        names = (grid.name, *(f"{grid.name}-{number}" for number in range(2, len(taken) + 2)))
        grid = replace(grid, name=next(name for name in names if name not in taken))
        self.grids.append(grid)
        return grid


def sections(content: Content, robustness: Mapping[str, Curves]) -> dict[str, Any]:
    """All that the template needs besides pictures; ``content`` then holds every table.

    Args:
        content: the runs.
        robustness: title -> curves.
    """
    runs, labels = content.runs, content.labels
    names = list(by_benchmark(runs))
    return {
        "title": ", ".join(names) if len(names) <= 4 else f"{len(names)} benchmarks",
        "n_runs": len(runs),
        "readouts": [_readout(run, label) for run, label in zip(runs, labels, strict=True)]
        if len(runs) <= MOST_READOUTS
        else [],
        "research_only": sorted({run.benchmark for run in runs if run.research_only}),
        "incomplete": [label for run, label in zip(runs, labels, strict=True) if not run.complete],
        "apart": _apart(content),
        "changed_first": [
            f"{label}: {' and '.join(changes)}"
            for run, label in zip(runs, labels, strict=True)
            if (changes := run.changed_first)
        ],
        "scores": content.keep(score_grid(runs, labels)),
        "splits": _splits(content),
        "benchmarks": [_benchmark(content, name, indices) for name, indices in by_benchmark(runs).items()],
        "comparisons": content.keep(comparisons_grid(runs)),
        "robustness": [_robustness(content, title, curves) for title, curves in robustness.items()],
        "provenance": [_provenance(run, label) for run, label in zip(runs, labels, strict=True)],
    }


def _apart(content: Content) -> list[tuple[str, str]]:
    """Each benchmark whose runs are not on the same pictures, and which runs are on which."""
    found: dict[str, list[str]] = {}
    for name, indices in by_benchmark(content.runs).items():
        if base := content.runs[indices[0]].base:
            found.setdefault(base, []).append(f"{name}: {', '.join(content.labels[index] for index in indices)}")
    return [(base, "; ".join(parts)) for base, parts in found.items()]


def _readout(run: Run, label: str) -> dict[str, Any]:
    """The head figures of one run."""
    figures = run.summary["decisions"]["method"]
    return {
        "benchmark": run.benchmark,
        "label": label,
        "figures": [
            (name, percent(figures[key]), _bounds(figures[f"{key}_interval"]))
            for name, key in (("accuracy", "accuracy"), ("AUC", "auc"))
        ],
        "findings": findings(run),
    }


def _bounds(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def _benchmark(content: Content, name: str, indices: Sequence[int]) -> dict[str, Any]:
    """Curves and tables of the runs on one benchmark."""
    runs = [content.runs[index] for index in indices]
    labels = [content.labels[index] for index in indices]
    curves = (
        _score_curves(runs[0])
        if len(runs) == 1
        else [(label, [line["score"] for line in run.done], run) for run, label in zip(runs, labels, strict=True)]
    )
    summary = runs[0].summary
    return {
        "name": name,
        "anchor": slug(name),
        "counts": f"{counted(summary['n'], 'picture')}, {summary['n_real']} real and {summary['n_fake']} fake"
        + (f"; {summary['n_failed']} failed" if summary["n_failed"] else ""),
        "roc": _roc(name, curves),
        "runs": [
            _run_details(content, run, label, slug(f"{name}-{run.folder.name}"), place)
            for place, (run, label) in enumerate(zip(runs, labels, strict=True))
        ],
    }


Scored = tuple[str, list[float], Run]


def _score_curves(run: Run) -> list[Scored]:
    """The scores of one run whose curves differ; what has none counts as 0.5, as in its summary."""
    titles = decision_titles(run)
    found: list[Scored] = [(titles["method"], [line["score"] for line in run.done], run)]
    others = {
        "opening": [line["answers"][0].get("opening_score") for line in run.done],
        "calibrated": [line.get("probability") for line in run.done],
    }
    for key, scores in others.items():
        if key in titles:
            title = "calibrated P(fake)" if key == "calibrated" else titles[key]
            found.append((title, [0.5 if score is None else score for score in scores], run))
    return found


def _roc(benchmark: str, scored: Sequence[Scored]) -> dict[str, Any] | None:
    series, legend = [], []
    for index, (label, scores, run) in enumerate(scored):
        curve = roc_curve([line["label"] == "fake" for line in run.done], scores)
        if curve is None:
            continue
        series.append(
            Series(label, [(false, true) for false, true, _ in curve.points() if None not in (false, true)], index)
        )
        legend.append((charts.swatch(index), label, f"equal error rate {percent(curve.equal_error_rate)} %"))
    if not series:
        return None
    return {"chart": charts.roc_chart(series, f"ROC curves on {benchmark}"), "legend": legend}


def _run_details(content: Content, run: Run, label: str, name: str, place: int) -> dict[str, Any]:
    types = run.summary.get("types")
    return {
        "label": label,
        "findings": findings(run) if len(content.runs) > MOST_READOUTS else [],
        "decisions": content.keep(decisions_grid(run, label, name)),
        "groups": content.keep(groups_grid(run, label, name)),
        "people": content.keep(subgroups_grid(run, label, name)),
        "explanation": _explanation(content, run, label, name),
        "confusion": _confusion(run),
        "types": None if types is None else _matrix(_named(types["confusion"])),
        "types_share": None if types is None else with_interval(types["accuracy"], types["accuracy_interval"]),
        "reliability": _reliability(run, label, place),
    }


def _explanation(content: Content, run: Run, label: str, name: str) -> list[Grid]:
    """How true the answers are, where that was measured."""
    if not run.explanation:
        return []
    about = f"{run.benchmark}, {label}"
    claims = claims_grid(run.explanation, f"What the answers claim: {about}", f"{name}-claims")
    texts = references_grid(run.explanation, f"What the answers share with references: {about}", f"{name}-references")
    return [kept for grid in (claims, texts) if (kept := content.keep(grid))]


def _confusion(run: Run) -> dict[str, Any]:
    counts = {label: dict.fromkeys((str(Verdict.REAL), str(Verdict.FAKE)), 0) for label in ("real", "fake")}
    for line in run.done:
        said = counts[line["label"]]
        said[line["verdict"]] = said.get(line["verdict"], 0) + 1
    return _matrix(counts)


_PLAIN = {"none": "no forgery", "unnamed": "fake, no type named"}


def _named(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """A summary's confusion of types with its words for none spelt out, no forgery first."""
    return {
        _PLAIN.get(truth, truth): {_PLAIN.get(name, name): count for name, count in row.items()}
        for truth, row in sorted(counts.items(), key=lambda item: item[0] != "none")
    }


def _matrix(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Rows of the truth; each cell a count, its share of the row in tenths, and whether it is right."""
    columns = list(dict.fromkeys([*(name for name in counts), *(name for row in counts.values() for name in row)]))
    rows = []
    for truth, row in counts.items():
        total = sum(row.values()) or 1
        cells = [(row.get(name, 0), round(10 * row.get(name, 0) / total), name == truth) for name in columns]
        rows.append((truth, cells))
    return {"columns": columns, "rows": rows}


def _reliability(run: Run, label: str, place: int) -> dict[str, Any] | None:
    lines = [line for line in run.done if line.get("probability") is not None]
    calibrated, lines = bool(lines), lines or run.done
    if not lines:
        return None
    truth = [line["label"] == "fake" for line in lines]
    stated = [line["probability"] if calibrated else line["score"] for line in lines]
    error = expected_calibration_error(truth, stated)
    title = f"Reliability of {'the calibrated P(fake)' if calibrated else 'the score'}: {run.benchmark}, {label}"
    return {
        "chart": charts.reliability_chart(reliability_bins(truth, stated), place, title),
        "error": None if error is None else f"{error:.3f}",
        "calibrated": calibrated,
    }


def _splits(content: Content) -> list[dict[str, Any]]:
    """For each family with several splits: its table, and from three splits on its radar."""
    found = []
    for name, splits in families(content.runs).items():
        if len(splits) < 2:
            continue
        systems = _systems(content, splits)
        grid = content.keep(splits_grid(name, splits, systems))
        worst = [(label, worst_split(list(of.values()))) for label, of in systems.items()]
        found.append(
            {
                "name": name,
                "grid": grid,
                "worst": [(label, line) for label, line in worst if line],
                **_radar(name, splits, systems),
            }
        )
    return found


def _systems(content: Content, splits: Sequence[str]) -> dict[str, dict[str, Run]]:
    """Each system that was scored on any of the splits, under a name of its own, with its runs on them."""
    found: dict[str, dict[str, Run]] = {}
    for of in by_system(content.runs):
        runs = {split: content.runs[index] for split, index in of.items() if split in splits}
        if not runs:
            continue
        first = next(iter(runs.values()))
        name = first.title if first.title not in found else f"{first.title} ({first.folder.name})"
        found[name if name not in found else f"{name}, {len(found) + 1}"] = runs
    return found


def _radar(name: str, splits: Sequence[str], systems: Mapping[str, Mapping[str, Run]]) -> dict[str, Any]:
    if len(splits) < 3:
        return {"radar": None, "legend": []}
    series = [
        Series(
            label,
            [of[split].summary["decisions"]["method"]["accuracy"] if split in of else None for split in splits],
            index,
        )
        for index, (label, of) in enumerate(systems.items())
    ]
    if name == REAL_SETS:
        for index, one in enumerate(published()["systems"], start=len(series)):
            values = [one["accuracy"].get(split) for split in splits]
            points = [None if value is None else value / 100 for value in values]
            hollow = [split in one["digitised"] for split in splits]
            series.append(Series(f"{one['name']}, published", points, index, hollow, faint=True))
    legend = [(charts.swatch(one.index), one.name, "") for one in series]
    return {"radar": charts.radar_chart(splits, series, f"Accuracy over the splits of {name}"), "legend": legend}


def _robustness(content: Content, title: str, curves: Curves) -> dict[str, Any]:
    drawn = []
    for corruption, curve in curves.items():
        levels = curve["levels"]
        series = [
            Series(name, curve.get(key) or [None] * len(levels), index)
            for index, (name, key) in enumerate((("accuracy", "acc"), ("AUC", "auc")))
        ]
        drawn.append((corruption, charts.level_chart(levels, series, f"{corruption}: accuracy and AUC by level")))
    legend = [(charts.swatch(0), "accuracy", ""), (charts.swatch(1), "AUC", "")]
    grid = content.keep(robustness_grid(curves, title, title))
    return {"title": title, "charts": drawn, "legend": legend, "grid": grid}


def _provenance(run: Run, label: str) -> dict[str, Any]:
    flat = {key: value for key, value in run.config.items() if not isinstance(value, Mapping) and value is not None}
    weights = run.config.get("fingerprint")
    return {
        "label": f"{run.benchmark}, {label}",
        "folder": run.folder.name,
        "made": [
            (key, str(run.manifest[key])) for key in ("created", "git_revision", "platform") if run.manifest.get(key)
        ],
        "config": [(key, str(value)) for key, value in flat.items()],
        "weights": [(key, str(value)[:16]) for key, value in weights.items()] if isinstance(weights, Mapping) else [],
    }
