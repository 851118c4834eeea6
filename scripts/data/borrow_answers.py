"""Truthful and borrowed answers to the pictures of a built set: what MIDS warms up on before it judges a model.

Each picture gets its own truthful answer, one with what was done to a picture of the other label, and one with what was
done to any other. Whatever was measured on the picture is its own in all three, so that only the traces of editing tell
which fits: thousands of pictures without a language model's minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.random import Generator, default_rng

from ffaa.config import CONFIGS, load_yaml, parse
from ffaa.data.records import read_records, write_records
from ffaa.forge.dataset import read_pictures
from ffaa.forge.explain import Wording, explain_line
from ffaa.methods.ffaa.mids_data import answer_label
from ffaa.methods.ffaa.mids_stage import ANSWERS_FILE
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import InputError, Record


@dataclass(frozen=True)
class Options:
    data: Path = PROJECT_ROOT / "data" / "mini" / "training"
    """Folder with pictures.jsonl and records.jsonl; answers.jsonl is written beside them."""
    wording: Path = CONFIGS / "forge" / "wording.yaml"
    """Terciles and probabilities by which answers are worded."""
    seed: int = 0
    """Of what is borrowed, and of the order."""


def borrowed(
    records: Sequence[Record], pictures: Mapping[str, Mapping[str, Any]], wording: Wording, seed: int
) -> list[Record]:
    """The records with three labelled answers each, in an order that says nothing.

    Args:
        records: of the set.
        pictures: what is known of each, by the record's id.
        wording: how answers are worded.
        seed: of all draws.

    Raises:
        InputError: the set has no pictures of both labels, or nothing is known of a record's picture.
    """
    if unknown := [record.id for record in records if record.id not in pictures]:
        raise InputError(f"record {unknown[0]!r} has no line in pictures.jsonl")
    edits = {label: [p for p in pictures.values() if p["label"] == label] for label in ("real", "fake")}
    if not all(edits.values()):
        raise InputError("answers are borrowed between real and forged pictures, and one of the two is not there")
    return [
        _with_answers(record, pictures[record.id], edits, wording, default_rng([seed, index]))
        for index, record in enumerate(records)
    ]


def _with_answers(
    record: Record,
    picture: Mapping[str, Any],
    edits: Mapping[str, Sequence[Mapping[str, Any]]],
    wording: Wording,
    rng: Generator,
) -> Record:
    other = "fake" if record.label == "real" else "real"
    labels = (other, str(rng.choice(["real", "fake"])))
    chosen = [picture, *(edits[label][int(rng.integers(len(edits[label])))] for label in labels)]
    answers = [_answer(chosen[place], picture, record.label, wording, rng) for place in rng.permutation(3)]
    return replace(record, task="selection", conversations=(), answers=tuple(answers))


def _answer(
    edit: Mapping[str, Any], picture: Mapping[str, Any], label: str, wording: Wording, rng: Generator
) -> dict[str, Any]:
    """What would be said of the picture, had the edit been done to it."""
    text = explain_line({**edit, "facts": picture["facts"]}, wording, rng)
    return {"content": text, "result": edit["label"], "label": answer_label(label, edit["label"])}


def main() -> int:
    options = parse(Options, prog="borrow_answers.py", description=__doc__ or "")
    records = read_records(options.data / "records.jsonl", files_must_exist=True)
    pictures = {picture["id"]: picture for picture in read_pictures(options.data)}
    path = options.data / ANSWERS_FILE
    write_records(path, borrowed(records, pictures, load_yaml(options.wording, Wording), options.seed))
    print(f"{path}: three answers to each of {len(records)} pictures")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
