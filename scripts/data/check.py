"""Open every picture of a training set and read every record of it, as a training would; list all that is wrong.

Exit code 2 when anything is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ffaa.config import load_yaml, model_folder, parse
from ffaa.data.formats import TrainingSet, examine_training_set
from ffaa.data.preflight import broken_pictures
from ffaa.runtime import EXIT_DONE, EXIT_INPUT, run_door
from ffaa.types import InputError, Record


@dataclass(frozen=True)
class Options:
    data: Path
    """What a stage is given as its data: a folder, or a .jsonl or .json file."""
    stage: str = "mllm"
    """The stage that is to read it: mllm or mids."""
    model: str = "mini"
    """Folder configs/ffaa/<model>/, which says how many answers MIDS is trained on."""
    image_folder: Path | None = None
    """What the pictures of a published file are relative to."""
    workers: int = os.cpu_count() or 1
    """Threads that open pictures."""

    def __post_init__(self) -> None:
        if self.stage not in ("mllm", "mids"):
            raise InputError(f"stage is mllm or mids, not {self.stage!r}")
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, got {self.workers}")


def open_set(options: Options) -> tuple[TrainingSet, Callable[[Record], object]]:
    """The set as far as it can be read, and what the stage does with each record before it trains."""
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.ffaa.mids_data import record_labels
    from ffaa.methods.ffaa.mids_stage import ANSWERS_FILE
    from ffaa.methods.ffaa.mllm_stage import RECORDS_FILE, conversation

    if options.stage == "mids":
        answers = load_yaml(model_folder("ffaa", options.model) / "model.yaml", FfaaConfig).mids.num_answers
        data = examine_training_set(options.data, ANSWERS_FILE, options.image_folder)
        return data, lambda record: record_labels(record, answers)
    data = examine_training_set(options.data, RECORDS_FILE, options.image_folder)
    return data, lambda record: conversation(record, data.root)


def find_problems(data: TrainingSet, use: Callable[[Record], object], workers: int) -> Iterator[str]:
    """What is wrong: first of entries that are no records, then of each record and its pictures."""
    yield from data.problems
    pictures = broken_pictures(data, workers)
    for record, problems in zip(data.records, tqdm(pictures, total=len(data.records), unit="record"), strict=True):
        try:
            use(record)
        except InputError as error:
            yield f"{data.file}: {error}"
        yield from problems


def main() -> int:
    options = parse(Options, prog="check.py", description=__doc__ or "")
    data, use = open_set(options)
    count = 0
    for problem in find_problems(data, use, options.workers):
        tqdm.write(problem)
        count += 1
    print(f"{data.file}: {len(data.records)} records, {count} problems")
    return EXIT_INPUT if count else EXIT_DONE


if __name__ == "__main__":
    run_door(main)
