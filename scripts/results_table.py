"""Print results as a Markdown table: every decision rule of a run beside the linear probe on the same pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffaa.config import parse
from ffaa.metrics.detection import decision_metrics
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import InputError

TITLES = {
    "majority_class": "majority class",
    "probe": "linear probe",
    "free_answer": "free answer",
    "opening": "free answer, first deciding token",
    "majority_vote": "majority vote",
    "method": "**FFAA (MIDS)**",
}
COLUMNS = ("majority_class", "probe", "free_answer", "majority_vote", "method")
RANKED = ("probe", "free_answer", "opening", "method")


@dataclass(frozen=True)
class Options:
    benchmarks: str = "free_ma,free_people,free_jpeg"
    """Benchmarks, separated by commas."""
    run: str = "ffaa-mini-N3-*"
    """Pattern of the run's folder; the newest that matches is shown."""
    results: Path = PROJECT_ROOT / "results"
    """Folder of results; the probe's are in probe/ below it."""


def newest_run(options: Options, benchmark: str) -> Path:
    summaries = sorted(
        (options.results / benchmark).glob(f"{options.run}/summary.json"), key=lambda p: p.stat().st_mtime
    )
    if not summaries:
        raise InputError(f"no finished run {options.run} of {benchmark} in {options.results}; eval.py makes one")
    return summaries[-1].parent


def decisions(run: Path, probe: Path) -> dict[str, Mapping[str, Any]]:
    """The run's decision rules, and the probe on exactly the pictures of the run."""
    found: dict[str, Mapping[str, Any]] = dict(json.loads((run / "summary.json").read_text())["decisions"])
    if probe.is_file():
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        scored = json.loads(probe.read_text())["scores"]
        scores = [float(scored[line["id"]]) for line in lines]
        verdicts = ["fake" if score > 0.5 else "real" for score in scores]
        found["probe"] = decision_metrics([line["label"] for line in lines], verdicts, scores)
    return found


def cell(metrics: Mapping[str, Any] | None, key: str) -> str:
    if metrics is None or metrics.get(key) is None:
        return "-"
    low, high = metrics[f"{key}_interval"]
    return f"{100 * metrics[key]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> int:
    options = parse(Options, prog="results_table.py", description=__doc__ or "")
    print("| split | real / fake | " + " | ".join(f"{TITLES[name]} ACC" for name in COLUMNS) + " | ", end="")
    print(" | ".join(f"AUC {TITLES[name]}" for name in RANKED) + " |")
    print("|---" * (2 + len(COLUMNS) + len(RANKED)) + "|")
    for benchmark in options.benchmarks.split(","):
        found = decisions(newest_run(options, benchmark), options.results / "probe" / f"{benchmark}.json")
        counts = f"{found['method']['n_real']} / {found['method']['n_fake']}"
        accuracies = [cell(found.get(name), "accuracy") for name in COLUMNS]
        print(f"| `{benchmark}` | {counts} | ", end="")
        print(" | ".join([*accuracies, *(cell(found.get(name), "auc") for name in RANKED)]) + " |")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
