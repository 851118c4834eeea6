"""Hold what answers claim against what is known of the pictures: facts, kind, the edited part; and what hypotheses do.

Works on a result folder without a model. For a benchmark that ``build_benchmarks.py`` made, answers are held against
its facts and against its truthful answers; for any other one against ``--references``, where they are given. Prints
tables and writes ``explanation.json`` into the result folder, from where the report shows it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import default_rng

from ffaa.config import CONFIGS, Switch, load_yaml, parse, read_json
from ffaa.data.benchmark import Benchmark
from ffaa.dialogue.answers import parse as read_answer
from ffaa.evaluation.finished import answered_lines, benchmark_of
from ffaa.evaluation.result_folder import EXPLANATION, PREDICTIONS, read_config
from ffaa.forge.claims import FACTS, contradicts, read_claims, true_claims
from ffaa.forge.dataset import PICTURES, read_pictures
from ffaa.forge.explain import Wording, explain_line
from ffaa.metrics.detection import share
from ffaa.metrics.explanation import claim_accuracy, completeness, hypothesis_effect, naming, opening_bias, variety
from ffaa.metrics.text_overlap import METRICS, Metric, overlap
from ffaa.reporting.claims import claims_grid, hypotheses_line, references_grid
from ffaa.reporting.grids import percent, with_counts
from ffaa.reporting.tables import grid_table, make_console
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door, sha256_file
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    results: str = ""
    """Result folders (results/<benchmark>/<run>), separated by commas."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks."""
    references: Path | None = None
    """JSON file that maps pictures to a reference answer, or to a list of several, for text metrics."""
    similarity: Switch = False
    """Also measure how alike in meaning answers and references are, by MiniLM; loads torch."""
    show: int = 0
    """Print so many of the chosen answers with what is wrong in them, as a Markdown table."""
    wording: Path = CONFIGS / "forge" / "wording.yaml"
    """Terciles by which answers are worded."""


def read_references(file: Path, pictures: Collection[str]) -> dict[str, list[str]]:
    """Picture -> reference answers.

    Raises:
        InputError: the file cannot be read, is no such mapping, or names a picture that is not one of ``pictures``.
    """
    texts = {key: [of] if isinstance(of, str) else of for key, of in read_json(file, unique=True).items()}
    sound = all(
        isinstance(of, list) and of and all(isinstance(text, str) and text.strip() for text in of)
        for of in texts.values()
    )
    if not texts or not sound:
        raise InputError(f"{file}: pictures with a reference text, or a list of them, expected")
    if unknown := [key for key in texts if key not in pictures]:
        raise InputError(
            f"{file}: there is no picture {unknown[0]!r} in the benchmark ({len(unknown)} of {len(texts)} names)"
        )
    return texts


def said(text: str) -> str:
    """Description and reasoning of an answer, without the verdict; all of a text that has neither."""
    answer = read_answer(text)
    return " ".join(filter(None, (answer.description, answer.reasoning))) or text


def form(lines: Sequence[Mapping[str, Any]], references: Mapping[str, Sequence[str]], similar: bool) -> dict[str, Any]:
    """What can be said of any result's answers: their form, what hypotheses do, what they share with references."""
    of_kind = {
        "free": [line["answers"][0] for line in lines],
        "chosen": [line["answers"][line["chosen"]] for line in lines],
    }
    metrics: dict[str, Metric] = dict(METRICS)
    if similar:
        from ffaa.backbones.sentence_similarity import SentenceSimilarity

        metrics["similarity"] = SentenceSimilarity()
    known = [at for at, line in enumerate(lines) if line["id"] in references]
    true = [[said(text) for text in references[lines[at]["id"]]] for at in known]
    return {
        "form": {name: completeness(answers) for name, answers in of_kind.items()},
        "text": {
            name: overlap([said(answers[at]["text"]) for at in known], true, metrics)
            for name, answers in of_kind.items()
            if known
        },
        "hypotheses": hypothesis_effect(lines),
        "opening_bias": opening_bias(lines),
    }


def explanation(folder: Path, pictures: Mapping[str, Mapping[str, Any]], wording: Wording) -> dict[str, Any]:
    """How true the free answers and the chosen ones are.

    Raises:
        InputError: the result holds a picture that the benchmark does not.
    """
    lines = answered_lines(folder)
    unknown = next((line["id"] for line in lines if line["id"] not in pictures), None)
    if unknown:
        raise InputError(f"{folder} holds a picture {unknown!r} of which the benchmark knows no facts")
    true = [true_claims(pictures[line["id"]], wording) for line in lines]
    texts = {
        "free": [line["answers"][0]["text"] for line in lines],
        "chosen": [line["answers"][line["chosen"]]["text"] for line in lines],
    }
    return {"answers": {name: _figures(answers, true) for name, answers in texts.items()}}


def judged(folder: Path, pictures: Mapping[str, Mapping[str, Any]], wording: Wording, number: int) -> list[str]:
    """Rows of a Markdown table: the truth, the chosen answer's reasoning, and what of the answer is false."""
    rows = ["| picture | truth | answer's reasoning | judgement |", "|---|---|---|---|"]
    for line in answered_lines(folder)[:number]:
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


def form_notes(figures: Mapping[str, Any]) -> list[str]:
    """How whole the answers are, what hypotheses do to them, and which metrics were left out, a line each."""
    form_of, effect = figures["form"]["free"], figures["hypotheses"]
    fields = ", ".join(f"{name} {percent(part['accuracy'])}" for name, part in form_of["fields"].items())
    lines = [
        f"free answers with all fields: {with_counts(form_of['complete'])} ({fields})",
        f"unparsed {with_counts(form_of['unparsed'])}, cut at the token limit {with_counts(form_of['truncated'])}",
        f"presuming fake turns a free real: {with_counts(effect['to_fake'])}; presuming real turns a free fake: "
        f"{with_counts(effect['to_real'])}",
    ]
    skipped = figures["text"].get("free", {}).get("skipped", {})
    return lines + [f"{name} left out: {reason}" for name, reason in skipped.items()]


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What hypotheses do, and how different the answers are, a line each."""
    free, bias = figures["answers"]["free"], figures["opening_bias"]
    varied = free["variety"]
    return [
        hypotheses_line(figures),
        "P(fake) at the first deciding token less the share of forged: " + ("–" if bias is None else f"{bias:+.3f}"),
        f"{varied['n_different']} different free answers of {varied['n']}; distinct-1/2/3 "
        + " / ".join("–" if varied[f"distinct_{n}"] is None else f"{varied[f'distinct_{n}']:.3f}" for n in (1, 2, 3)),
        f"commonest false claims of free answers: {free['false_claims']}",
    ]


def score(folder: Path, benchmark: Benchmark, options: Options, wording: Wording) -> None:
    """Score one result, print its tables and write its figures.

    Raises:
        InputError: it holds no answered picture, or the references do not fit it.
    """
    console = make_console()
    built = (benchmark.root / PICTURES).is_file()
    pictures = {Path(picture["image"]).name: picture for picture in read_pictures(benchmark.root)} if built else {}
    facts = explanation(folder, pictures, wording) if built else {}
    references: Mapping[str, Sequence[str]] = {
        key: [explain_line(picture, wording, default_rng(0))] for key, picture in pictures.items()
    }
    lines = answered_lines(folder)
    if options.references:
        references = read_references(options.references, {item.id for item in benchmark.items})
        known = sum(line["id"] in references for line in lines)
        if not known:
            raise InputError(f"{options.references} has no reference for any of the {len(lines)} pictures of {folder}")
        console.print(f"{known} of {len(lines)} pictures have a reference", markup=False)
    source = options.references.name if options.references else "truthful answers"
    figures = {"references": source, **facts, **form(lines, references, options.similarity)}
    console.print(grid_table(claims_grid(figures, benchmark.name, "claims")))
    if shared := references_grid(figures, benchmark.name, "references"):
        console.print(grid_table(shared))
    for line in [*(notes(figures) if facts else []), *form_notes(figures)]:
        console.print(line, markup=False)
    for row in judged(folder, pictures, wording, options.show) if facts and options.show > 0 else ():
        print(row)
    of = {"predictions": sha256_file(folder / PREDICTIONS)}
    if degraded := read_config(folder).get("degrade"):
        console.print(f"pictures were corrupted first ({degraded}), facts are those of the clean ones", markup=False)
    atomic_write_text(folder / EXPLANATION, json.dumps({**of, **figures}, indent=2) + "\n")


def main() -> int:
    options = parse(Options, prog="score_answers.py", description=__doc__ or "")
    folders = [Path(name.strip()) for name in options.results.split(",") if name.strip()]
    if not folders:
        raise InputError("no result given: use --results results/<benchmark>/<run>")
    wording = load_yaml(options.wording, Wording)
    for folder in folders:
        score(folder, benchmark_of(folder, options.benchmark_root), options, wording)
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
