"""Hold what answers claim against what is known of the pictures: facts, kind, the edited part; and what hypotheses do.

Works on a result folder of a benchmark that ``build_benchmarks.py`` made, without a model. Prints tables and writes
``explanation.json`` into the result folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ffaa.config import CONFIGS, load_yaml, parse
from ffaa.data.benchmark import load_benchmark
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import PREDICTIONS, read_config
from ffaa.evaluation.runner import data_fingerprint, select
from ffaa.forge.claims import FACTS, contradicts, read_claims, true_claims
from ffaa.forge.dataset import read_pictures
from ffaa.forge.explain import Wording
from ffaa.metrics.detection import share
from ffaa.metrics.explanation import claim_accuracy, hypothesis_effect, naming, opening_bias, variety
from ffaa.reporting.tables import make_console
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    results: str = ""
    """Result folders (results/<benchmark>/<run>), separated by commas."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks."""
    show: int = 0
    """Print so many of the chosen answers with what is wrong in them, as a Markdown table."""
    wording: Path = CONFIGS / "forge" / "wording.yaml"
    """Terciles by which answers are worded."""


def explanation(folder: Path, pictures: Mapping[str, Mapping[str, Any]], wording: Wording) -> dict[str, Any]:
    """All figures of a result, for the free answers and for the chosen ones.

    Raises:
        InputError: the result holds a picture that the benchmark does not.
    """
    lines = [line for line in read_lines(folder / PREDICTIONS) if line["status"] == "ok" and line["answers"]]
    unknown = next((line["id"] for line in lines if line["id"] not in pictures), None)
    if unknown:
        raise InputError(f"{folder} holds a picture {unknown!r} of which the benchmark knows no facts")
    true = [true_claims(pictures[line["id"]], wording) for line in lines]
    texts = {
        "free": [line["answers"][0]["text"] for line in lines],
        "chosen": [line["answers"][line["chosen"]]["text"] for line in lines],
    }
    return {
        "answers": {name: _figures(answers, true) for name, answers in texts.items()},
        "hypotheses": hypothesis_effect(lines),
        "opening_bias": opening_bias(lines),
    }


def judged(folder: Path, pictures: Mapping[str, Mapping[str, Any]], wording: Wording, number: int) -> list[str]:
    """Rows of a Markdown table: the truth, the chosen answer's reasoning, and what of the answer is false."""
    rows = ["| picture | truth | answer's reasoning | judgement |", "|---|---|---|---|"]
    lines = [line for line in read_lines(folder / PREDICTIONS) if line["status"] == "ok" and line["answers"]]
    for line in lines[:number]:
        answer, picture = line["answers"][line["chosen"]], pictures[line["id"]]
        claim, truth = read_claims(answer["text"]), true_claims(picture, wording)
        wrong = [f"{slot}: {claim[slot]} for {truth[slot]}" for slot in truth if claim[slot] != truth[slot]]
        verdict = "right" if answer["verdict"] == line["label"] else "wrong"
        done = " ".join(filter(None, (picture["kind"], truth["region"], truth["operation"])))
        said = "; ".join([f"verdict {verdict}", *wrong])
        rows.append(f"| {line['id']} | {done} | {answer['reasoning'].replace('|', ' ')} | {said} |")
    return rows


def _figures(answers: Sequence[str], true: Sequence[Mapping[str, str | None]]) -> dict[str, Any]:
    claimed = [read_claims(answer) for answer in answers]
    false = Counter(
        f"{claim['sign']} {claim['region'] or ''}".strip()
        for claim, truth in zip(claimed, true, strict=True)
        if claim["sign"] and (claim["sign"], claim["region"]) != (truth["sign"], truth["region"])
    )
    return {
        "facts": claim_accuracy(claimed, true, FACTS),
        "signs": claim_accuracy(claimed, true, ("sign",))["sign"],
        "by_sign": _by_sign(claimed, true),
        "regions": naming([claim["region"] for claim in claimed], [truth["region"] for truth in true]),
        "operations": claim_accuracy(claimed, true, ("operation",))["operation"],
        "contradictions": share(sum(map(contradicts, answers)), len(answers)),
        "variety": variety(answers),
        "false_claims": dict(false.most_common(5)),
    }


def _by_sign(claimed: Sequence[Mapping[str, str | None]], true: Sequence[Mapping[str, str | None]]) -> dict[str, Any]:
    """Recall of each true sign."""
    signs = sorted({str(truth["sign"]) for truth in true})
    groups = {
        sign: [c["sign"] == sign for c, t in zip(claimed, true, strict=True) if t["sign"] == sign] for sign in signs
    }
    return {sign: share(sum(group), len(group)) for sign, group in groups.items()}


def table(benchmark: str, figures: Mapping[str, Any]) -> Table:
    """Free and chosen answers side by side, each figure with what no look at the picture scores."""
    shown = Table("claim", "free answer", "chosen answer", "without looking", title=benchmark)
    free, chosen = figures["answers"]["free"], figures["answers"]["chosen"]
    for slot in FACTS:
        shown.add_row(
            slot, _cell(free["facts"][slot]), _cell(chosen["facts"][slot]), _percent(free["facts"][slot]["majority"])
        )
    shown.add_row("sign of forgery", _cell(free["signs"]), _cell(chosen["signs"]), _percent(free["signs"]["majority"]))
    for sign in free["by_sign"]:
        shown.add_row(f"  {sign}", _cell(free["by_sign"][sign]), _cell(chosen["by_sign"][sign]), "")
    if free["regions"]["recall"]["n"]:
        _add_regions(shown, free["regions"], chosen["regions"])
        shown.add_row(
            "operation",
            _cell(free["operations"]),
            _cell(chosen["operations"]),
            _percent(free["operations"]["majority"]),
        )
    shown.add_row("verdict against reasoning", _cell(free["contradictions"]), _cell(chosen["contradictions"]), "")
    return shown


def _add_regions(shown: Table, free: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    without = f"{_percent(free['most_frequent'])}, chance {_percent(free['chance'])}"
    shown.add_row("edited part, precision", _cell(free["precision"]), _cell(chosen["precision"]), "")
    shown.add_row("edited part, recall", _cell(free["recall"]), _cell(chosen["recall"]), without)
    for part in free["by_part"]:
        shown.add_row(f"  {part}", _cell(free["by_part"][part]), _cell(chosen["by_part"][part]), "")


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What hypotheses do, and how different the answers are, a line each."""
    effect, free = figures["hypotheses"], figures["answers"]["free"]
    bias, varied = figures["opening_bias"], free["variety"]
    return [
        f"a wrong hypothesis flips a right free verdict: {_cell(effect['wrong_flips'])}; the truth mends a wrong one: "
        f"{_cell(effect['right_mends'])}; the three disagree: {_cell(effect['disagree'])}",
        "P(fake) at the first deciding token less the share of forged: " + ("-" if bias is None else f"{bias:+.3f}"),
        f"{varied['n_different']} different free answers of {varied['n']}; distinct-1/2/3 "
        + " / ".join("-" if varied[f"distinct_{n}"] is None else f"{varied[f'distinct_{n}']:.3f}" for n in (1, 2, 3)),
        f"commonest false claims of free answers: {free['false_claims']}",
    ]


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["accuracy"] is None:
        return "-"
    low, high = figure["accuracy_interval"]
    return f"{100 * figure['accuracy']:.1f} [{100 * low:.1f}-{100 * high:.1f}] ({figure['n_correct']}/{figure['n']})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> int:
    options = parse(Options, prog="score_answers.py", description=__doc__ or "")
    folders = [Path(name.strip()) for name in options.results.split(",") if name.strip()]
    if not folders:
        raise InputError("no result given: use --results results/<benchmark>/<run>")
    wording, console = load_yaml(options.wording, Wording), make_console()
    for folder in folders:
        facts = read_config(folder)
        name = str(facts.get("benchmark", ""))
        benchmark = load_benchmark(name, options.benchmark_root)
        if facts.get("data") not in (None, data_fingerprint(select(benchmark, int(facts.get("limit", -1))))):
            raise InputError(f"{folder} was made on another {name} than the one in {benchmark.root}")
        pictures = {Path(picture["image"]).name: picture for picture in read_pictures(benchmark.root)}
        figures = explanation(folder, pictures, wording)
        console.print(table(name, figures))
        for line in notes(figures):
            console.print(line, markup=False)
        for row in judged(folder, pictures, wording, options.show) if options.show > 0 else ():
            print(row)
        atomic_write_text(folder / "explanation.json", json.dumps(figures, indent=2) + "\n")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
