"""Print results as Markdown tables: every decision rule of a run beside the linear probe on the same pictures.

Accuracy, then AUC, then by how much one AUC is above another on the same pictures. All
intervals are by person or video where the benchmark tells (groups.json).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from ffaa.config import parse, read_json
from ffaa.evaluation.finished import benchmark_of
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import MANIFEST, PREDICTIONS, SUMMARY, count_to_score, known_config
from ffaa.evaluation.runner import data_fingerprint
from ffaa.metrics.detection import decision_metrics, groups_of
from ffaa.metrics.intervals import Pictures, paired_auc_difference
from ffaa.reporting.grids import signed, with_interval
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, config_hash, run_door
from ffaa.types import InputError

TITLES = {
    "majority_class": "majority class",
    "probe": "linear probe",
    "free_answer": "free answer",
    "opening": "free answer, first deciding token",
    "majority_vote": "majority vote",
    "method": "**FFAA (MIDS)**",
    "calibrated": "**FFAA, calibrated**",
}
COLUMNS = ("majority_class", "probe", "free_answer", "majority_vote", "method", "calibrated")
RANKED = ("probe", "opening", "method", "calibrated")
COMPARED = (("calibrated", "probe"), ("calibrated", "opening"), ("calibrated", "method"), ("method", "opening"))
"""Whose AUC is compared with whose on the same pictures."""


NO_MATTER = ("device", "compile", "attn_implementation", "block_size")
"""Options of a run that move its figures by rounding at most."""
OF_ALL = ("fingerprint", "limit")
"""What the runs of one table have in common on all benchmarks: weights, and how many pictures were asked for."""


@dataclass(frozen=True)
class Options:
    benchmarks: str = "free_ma,free_people,free_jpeg"
    """Benchmarks, separated by commas."""
    run: str = "ffaa-mini-N3-*"
    """Names or patterns of the runs' folders, separated by commas; one given by its whole name goes before patterns."""
    results: Path = PROJECT_ROOT / "results"
    """Folder of results; the probe's are in probe/ below it."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks, read only where the probe stands beside a run on some of a benchmark's pictures."""

    @property
    def patterns(self) -> list[str]:
        """The names and patterns of ``run``."""
        return [pattern.strip() for pattern in self.run.split(",") if pattern.strip()]


def chosen_run(options: Options, benchmark: str) -> Path:
    """The finished run that is meant, which is said; one on corrupted pictures only where its name is given whole.

    Raises:
        InputError: there is none, or several that were not made in the same way.
    """
    below = options.results / benchmark
    runs = sorted(file.parent for file in below.glob(f"*/{SUMMARY}") if is_finished(file.parent))
    found = [folder for folder in runs if folder.name in options.patterns] or [
        folder
        for folder in runs
        if any(fnmatch(folder.name, pattern) for pattern in options.patterns)
        and not known_config(folder).get("degrade")
    ]
    if not found:
        raise InputError(f"no finished run {options.run} of {benchmark} in {options.results}; eval.py makes one")
    facts = {folder: known_config(folder) for folder in found}
    keys = {key for of in facts.values() for key in of} - set(NO_MATTER)
    if differing := differences(facts, sorted(keys | {"fingerprint"})):
        raise InputError(
            f"several runs {options.run} of {benchmark} that are not alike: {differing}; "
            f"--run NAME names the one that is meant (for several benchmarks NAME,NAME)"
        )
    newest = max(found, key=lambda folder: (created(folder), folder.name))
    others = f", the newest of {len(found)}" if len(found) > 1 else ""
    limit = facts[newest].get("limit", -1)
    part = f", {limit} pictures at most" if limit != -1 else ""
    print(f"{benchmark}: {newest}{others}{part}", file=sys.stderr)
    return newest


def is_finished(run: Path) -> bool:
    """Whether every picture that the run was begun on has its line: one that was cut can have a summary too."""
    number = count_to_score(run)
    return number is None or len(read_lines(run / PREDICTIONS, texts=False)) >= number


def created(run: Path) -> str:
    """When the run was begun, as text that sorts by time; empty where that is not known."""
    return str(read_json(run / MANIFEST).get("created", "")) if (run / MANIFEST).is_file() else ""


def differences(facts: Mapping[Path, Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Each run with those of some facts that are not the same in all; empty where all are."""

    def text(value: object) -> str:
        return config_hash(value) if isinstance(value, Mapping) else str(value)

    apart = [key for key in keys if len({config_hash(of.get(key)) for of in facts.values()}) > 1]
    if not apart:
        return ""
    return ", ".join(
        f"{run.parent.name}/{run.name} ({', '.join(f'{key} {text(of.get(key))}' for key in apart)})"
        for run, of in facts.items()
    )


def chosen_runs(options: Options) -> dict[str, Path]:
    """Benchmark -> the run that is meant.

    Raises:
        InputError: as `chosen_run`; or the runs of different benchmarks have other weights or another limit.
    """
    runs = {name: chosen_run(options, name) for name in map(str.strip, options.benchmarks.split(",")) if name}
    if differing := differences({run: known_config(run) for run in runs.values()}, OF_ALL):
        raise InputError(
            f"the runs are not of one model on as many pictures: {differing}; "
            "--run NAME,NAME names one of each benchmark, --benchmarks shows fewer"
        )
    return runs


@dataclass(frozen=True)
class Run:
    """A finished run: its decision rules, and whose pictures and which scores of some of the rules, by picture."""

    decisions: Mapping[str, Mapping[str, Any]]
    labels: Sequence[bool]
    groups: Sequence[str]
    scores: Mapping[str, Sequence[float]]


def probe_scores(probe: Path, run: Path, root: Path) -> dict[str, Any]:
    """Picture -> the probe's P(fake), of the pictures that the run was made on: ids are 00000.jpg in every benchmark.

    Raises:
        InputError: the probe scored other pictures than the run's, or its file does not say which.
    """
    found = read_json(probe)
    config = known_config(run)
    # The fingerprint of a run on some pictures is theirs alone. That they are of the benchmark in `root` is checked
    # there, and so the probe's must be that of the whole of it.
    data = config.get("data") if config.get("limit", -1) == -1 else data_fingerprint(benchmark_of(run, root))
    if "scores" not in found or data is None or found.get("data") != data:
        raise InputError(
            f"{probe} is not of the pictures of {run} (data {found.get('data')}, not {data}); "
            "scripts/data/probe_benchmarks.py makes it anew"
        )
    return dict(found["scores"])


def read_run(run: Path, probe: Path, root: Path) -> Run:
    """The run, and the probe on exactly its pictures."""
    found: dict[str, Mapping[str, Any]] = dict(read_json(run / SUMMARY).get("decisions") or {})
    if "method" not in found:
        raise InputError(f"{run / SUMMARY} is no summary of a run; eval.py --score_only {run} makes it anew")
    lines = [line for line in read_lines(run / PREDICTIONS) if line["status"] == "ok"]
    labels, groups = [line["label"] for line in lines], groups_of(lines)
    scores: dict[str, list[float]] = {}
    if probe.is_file():
        scored = probe_scores(probe, run, root)
        if unknown := [line["id"] for line in lines if line["id"] not in scored]:
            raise InputError(f"{probe} has no score of {unknown[0]!r}; scripts/data/probe_benchmarks.py makes it anew")
        scores["probe"] = [float(scored[line["id"]]) for line in lines]
        verdicts = ["fake" if score > 0.5 else "real" for score in scores["probe"]]
        found["probe"] = decision_metrics(labels, verdicts, scores["probe"], groups=groups)
    of_line: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "opening": lambda line: line["answers"][0].get("opening_score"),
        "method": lambda line: line["score"],
        "calibrated": lambda line: line.get("probability"),
    }
    for name, score in of_line.items():
        if name in found:
            scores[name] = [0.5 if (value := score(line)) is None else value for line in lines]
    return Run(found, [label == "fake" for label in labels], groups or [line["id"] for line in lines], scores)


def cell(metrics: Mapping[str, Any], key: str) -> str:
    """A figure in % with its interval; a dash where there is none."""
    return with_interval(metrics.get(key), metrics.get(f"{key}_interval"))


def difference(run: Run, first: str, second: str) -> str:
    """The AUC of one score less another's, in points."""
    if first not in run.scores or second not in run.scores:
        return "–"
    fake, (own, others) = np.array(run.labels), (np.array(run.scores[name]) for name in (first, second))
    found = paired_auc_difference(Pictures(fake, fake, own, run.groups), others)
    return "–" if found is None else signed(*found)


def figures(names: Sequence[str], key: str, title: str) -> tuple[list[str], Callable[[Run], list[str]]]:
    """Titles of the columns and what is in them: one figure of several decision rules."""
    return (
        [f"{title} {TITLES[name]}" for name in names],
        lambda run: [cell(run.decisions.get(name) or {}, key) for name in names],
    )


def show(columns: Sequence[str], cells: Callable[[Run], Sequence[str]], *, runs: Mapping[str, Run]) -> None:
    """One table, a row a benchmark."""
    print("| split | real / fake | " + " | ".join(columns) + " |")
    print("|---" * (2 + len(columns)) + "|")
    for benchmark, run in runs.items():
        counts = f"{run.decisions['method']['n_real']} / {run.decisions['method']['n_fake']}"
        print(f"| `{benchmark}` | {counts} | " + " | ".join(cells(run)) + " |")
    print()


def main() -> int:
    options = parse(Options, prog="results_table.py", description=__doc__ or "")
    runs = {
        name: read_run(run, options.results / "probe" / f"{name}.json", options.benchmark_root)
        for name, run in chosen_runs(options).items()
    }
    show(*figures(COLUMNS, "accuracy", "ACC"), runs=runs)
    show(*figures(RANKED, "auc", "AUC"), runs=runs)
    titles = [f"AUC {TITLES[first]} - {TITLES[second]}" for first, second in COMPARED]
    show(titles, lambda run: [difference(run, *pair) for pair in COMPARED], runs=runs)
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
