"""Three answers a picture on disk: by whom, where they go, and what a kill costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffaa.backbones.adapter import attach_lora, save_adapter
from ffaa.backbones.generation import TransformersEngine
from ffaa.backbones.mllm import build_mllm
from ffaa.config import load_yaml, model_folder
from ffaa.data.records import read_records, write_records
from ffaa.dialogue.answers import format_answer
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.types import GeneratedText, InputError, Record, Verdict
from scripts.data import generate_answers as door

PICTURES = 7


def model(folder: Path, seed: int) -> Path:
    config = load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig)
    save_adapter(attach_lora(build_mllm(config.mllm), config.mllm, seed=seed), folder / "mllm")
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A stage-1 result; beside it ``data``, the even pictures of which are real and dark."""
    (tmp_path / "data" / "imgs").mkdir(parents=True)
    records = []
    for index in range(PICTURES):
        image = f"imgs/{index}.png"
        Image.new("RGB", (32, 32), (200 * (index % 2),) * 3).save(tmp_path / "data" / image)
        records.append(Record(str(index), image, ("real", "fake")[index % 2]))
    write_records(tmp_path / "data" / "records.jsonl", records)
    return model(tmp_path / "first", seed=0)


class Scripted:
    """Answers with the truth to the even ones of what is asked, with its opposite to the odd ones; counts pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.most = 10**9
        monkeypatch.setattr(TransformersEngine, "ask", lambda _, images, questions: self.answer(images, questions))

    def answer(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        if self.asked + len(images) > self.most:
            raise KeyboardInterrupt
        self.asked += len(images)
        return [
            [self._text(image, place) for place in range(len(row))]
            for image, row in zip(images, questions, strict=True)
        ]

    def _text(self, image: Image.Image, place: int) -> GeneratedText:
        fake = bool(np.asarray(image).mean() > 100) != bool(place % 2)
        verdict, kind = (Verdict.FAKE, "Identity swap") if fake else (Verdict.REAL, None)
        return GeneratedText(format_answer("A face.", "For reasons.", verdict, 0.9, kind), True, 0.5, 0.5)


def generate(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    data = checkpoint.parent / "data"
    arguments = ["--data", str(data), "--model", "tiny", "--checkpoint", str(checkpoint), "--block_size", "3", *options]
    monkeypatch.setattr(sys, "argv", ["generate_answers.py", *arguments])
    return door.main()


def test_answers_are_labelled_by_the_picture(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Scripted(monkeypatch)
    assert generate(first, monkeypatch) == 0
    labels = [
        [answer["label"] for answer in record.answers]
        for record in read_records(first.parent / "data" / "answers.jsonl")
    ]
    # Free, then what presumes the opposite of its verdict, then what presumes the same: here true, false and true.
    assert labels == [[0, 0, 1], [3, 2, 3]] * (PICTURES // 2) + [[0, 0, 1]]


def test_a_cut_run_goes_on_where_it_stopped(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(monkeypatch)
    assert generate(first, monkeypatch, "--answers", "answers-whole.jsonl", "--fresh", "1") == 0
    for torn in first.parent.glob("data/triples-*.jsonl"):
        torn.unlink()
    scripted.asked, scripted.most = 0, 4
    with pytest.raises(KeyboardInterrupt):
        generate(first, monkeypatch)
    assert not (first.parent / "data" / "answers.jsonl").exists()
    (triples,) = first.parent.glob("data/triples-*.jsonl")
    triples.write_text(triples.read_text()[:-9])
    scripted.asked, scripted.most = 0, 10**9
    assert generate(first, monkeypatch) == 0
    # The torn picture's block again, and what had not been asked.
    assert scripted.asked == PICTURES
    whole, resumed = ((first.parent / "data" / f"answers{name}.jsonl").read_bytes() for name in ("-whole", ""))
    assert resumed == whole
    assert generate(first, monkeypatch) == 0 and scripted.asked == PICTURES


def test_another_models_answers_stand_beside_the_first(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(monkeypatch)
    assert generate(first, monkeypatch) == 0
    kept = (first.parent / "data" / "answers.jsonl").read_bytes()
    second = model(first.parent / "second", seed=1)
    assert generate(second, monkeypatch, "--answers", "answers-seed1.jsonl", "--limit", "2") == 0
    assert scripted.asked == PICTURES + 2, "answers of the first model were taken for the second's"
    assert (first.parent / "data" / "answers.jsonl").read_bytes() == kept
    assert len(read_records(first.parent / "data" / "answers-seed1.jsonl")) == 2


def test_answers_on_another_base_are_not_taken_up(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffaa.methods import checkpoint

    scripted = Scripted(monkeypatch)
    assert generate(first, monkeypatch) == 0
    monkeypatch.setattr(checkpoint, "tower_hash", lambda source: "other weights")
    assert generate(first, monkeypatch) == 0
    assert scripted.asked == 2 * PICTURES and len(list(first.parent.glob("data/triples-*.jsonl"))) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        *({"answers": name} for name in ("records.jsonl", "triples-1.jsonl", "a/answers.jsonl", "answers.json")),
        {"block_size": 0},
        {"keep_equal": 1.5},
        {"limit": 0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        door.Options(**wrong)


def test_a_file_that_the_set_names_must_be_there(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first.parent / "data" / "imgs" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png"):
        generate(first, monkeypatch)


def test_a_picture_that_changed_is_answered_anew(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(monkeypatch)
    assert generate(first, monkeypatch) == 0
    Image.new("RGB", (32, 32), (220,) * 3).save(first.parent / "data" / "imgs" / "0.png")
    scripted.asked = 0
    assert generate(first, monkeypatch) == 0 and scripted.asked == 3, "its block"
    (triples,) = first.parent.glob("data/triples-*.jsonl")
    assert len(triples.read_text().splitlines()) == PICTURES + 1
    labels = [answer["label"] for answer in read_records(first.parent / "data" / "answers.jsonl")[0].answers]
    assert labels == [1, 0, 1]


def test_a_model_whose_answers_cannot_be_read_is_said(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unread = GeneratedText("whatever", False, 0.5, 0.5)
    monkeypatch.setattr(TransformersEngine, "ask", lambda _, images, asked: [[unread] * len(row) for row in asked])
    with pytest.raises(
        InputError, match=rf"none of {PICTURES} pictures is left .*'unparsed': {PICTURES}.*no answer can be"
    ):
        generate(first, monkeypatch)


@pytest.mark.parametrize("line", ["{", "[1]", "null", "", '{"id": "0"}'])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "triples-1.jsonl").write_text(f'{{"id": "1", "answers": []}}\n{line}\n{{"id": "2", "answers": []}}\n')
    with pytest.raises(InputError, match=r"triples-1\.jsonl:2 is damaged; --fresh 1"):
        door.read_triples(tmp_path / "triples-1.jsonl")
