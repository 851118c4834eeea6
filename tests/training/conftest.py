"""A set small enough to be trained on in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ffaa.data.records import write_records
from ffaa.types import Record

ANSWER = "Image description: a face.\nForgery reasoning: {0} of editing.\nAnalysis result: {1}\nForgery type: None"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight pictures of two plain colours: dark ones are real, bright ones fake."""
    folder = tmp_path / "data"
    (folder / "imgs").mkdir(parents=True)
    records, answers = [], []
    for index in range(8):
        fake = index % 2 == 1
        Image.new("RGB", (32, 32), (220, 200, 180) if fake else (20, 30, 40)).save(folder / "imgs" / f"{index}.png")
        word, label = ("Signs", "fake") if fake else ("No signs", "real")
        record = Record(id=str(index), image=f"imgs/{index}.png", label=label)
        turns = (
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": ANSWER.format(word, label)},
        )
        records.append(replace(record, conversations=turns))
        triple = [("real", 2 * fake), ("fake", 2 * fake + 1), (label, 3 if fake else 0)]
        contents = [{"content": ANSWER.format(word, said), "result": said, "label": code} for said, code in triple]
        answers.append(replace(record, answers=tuple(contents)))
    write_records(folder / "records.jsonl", records)
    write_records(folder / "answers.jsonl", answers)
    return folder
