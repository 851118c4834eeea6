"""Evaluate a method on benchmarks: ``python eval.py --benchmark NAME --model mini --generate_num 3 --eval_num -1``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffaa.config import parse
from ffaa.evaluation.benchmarks import EvalConfig, Result, evaluate, generate
from ffaa.reporting.tables import benchmarks_table, decisions_table, family, group_lines, make_console, spread_line
from ffaa.runtime import EXIT_DONE, EXIT_PARTIAL, Rank, run_door
from ffaa.types import Mode


def report(results: Sequence[Result]) -> int:
    """Print the tables of scored benchmarks; returns the exit code."""
    console = make_console()
    families: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        console.print(decisions_table(result.title, result.summary, result.method))
        for line in group_lines(result.summary):
            console.print(line, markup=False)
        console.print(f"saved in {result.folder}\n", markup=False, soft_wrap=True)
        families.setdefault(family(result.benchmark), {})[result.benchmark] = result.summary
    for summaries in families.values():
        if len(summaries) > 1:
            console.print(benchmarks_table(summaries, results[0].method))
        if spread := spread_line(summaries):
            console.print(spread, markup=False)
    n_failed = sum(result.summary["n_failed"] for result in results)
    if n_failed:
        console.print(f"{n_failed} failed and not scored; predictions.jsonl says why", markup=False)
    return EXIT_PARTIAL if n_failed else EXIT_DONE


def report_answers(answered: int, failed: int, file: Path) -> int:
    """Say what was written; returns the exit code."""
    console, rank = make_console(), Rank.of_this_process()
    share = "" if rank.count == 1 else f" of rank {rank.index}'s share"
    size = f" in {file} ({file.stat().st_size / 1e6:.2f} MB)" if file.is_file() else ""
    console.print(f"answers to {answered} pictures{share} are kept{size}", markup=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} pictures{share} cannot be used; --mode score says why", markup=False)
    # A launcher ends the other ranks when one of them ends with another code, whatever they still have to write.
    return EXIT_PARTIAL if failed and rank.count == 1 else EXIT_DONE


def run(config: EvalConfig) -> int:
    """Do what the options ask for; returns the exit code."""
    if Mode(config.mode) is Mode.GENERATE:
        return report_answers(*generate(config))
    return report(evaluate(config))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation that the command line asks for."""
    config = parse(EvalConfig, argv, prog="eval.py", description="Evaluate a method on benchmarks.")
    return run(config)


if __name__ == "__main__":
    run_door(main)
