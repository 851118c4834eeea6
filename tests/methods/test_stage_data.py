"""What a stage is given is read and checked before anything is built, in our own form and in the published ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ffaa.data.preflight import MISSING_FILE
from ffaa.methods import find_stage
from ffaa.methods.ffaa import mids_stage, mllm_stage
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.methods.stage_data import DATA_FILE, read_stage_data
from ffaa.runtime import sha256_file
from ffaa.training.trainer import train
from ffaa.types import InputError
from tests.data import published


def config(stage: str, data: Path, output: Path, **options: object) -> StageConfig:
    return StageConfig(
        model="tiny", stage=stage, data=data, output=output, groups=[ParameterGroup("lora_|self_blocks", 1e-3)],
        max_steps=2, batch_size=2, dtype="float32", device="cpu", save_steps=2, options=options,
    )  # fmt: skip


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where a model is built."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(mllm_stage, "build_mllm", refuse)
    monkeypatch.setattr(mids_stage, "build_mids", refuse)


def test_stage_1_trains_on_the_published_file(tmp_path: Path) -> None:
    file = published.conversations(tmp_path / "vqa")
    (tmp_path / "vqa/images").rename(tmp_path / "images")
    out = train(find_stage("ffaa", "mllm"), config("mllm", file, tmp_path / "out", image_folder=str(tmp_path)))
    assert (out / "mllm/adapter_model.safetensors").is_file()
    facts = json.loads((out / DATA_FILE).read_text())
    assert facts == {"train": {"file": file.as_posix(), "sha256": sha256_file(file), "records": 4}}


def test_the_picture_stands_before_the_question_wherever_the_file_has_it(tmp_path: Path) -> None:
    file = published.conversations(tmp_path)
    run = find_stage("ffaa", "mllm").prepare(config("mllm", file, tmp_path / "out"))
    first = run.train[0]
    assert first.question == "Real or fake?" and first.image == tmp_path / "images/0.png"
    text = run.collate.mllm.tokenizer.decode(run.collate([first])["input_ids"][0])  # type: ignore[attr-defined]
    assert text.index("<image>") < text.index("Real or fake?")


def test_stage_2_trains_on_the_published_file(tmp_path: Path) -> None:
    file = published.selections(tmp_path / "LLaVA_answers", tmp_path / "faces")
    settings = replace(config("mids", file, tmp_path / "out"), validation=file)
    out = train(find_stage("ffaa", "mids"), settings)
    assert (out / "mids/model.safetensors").is_file()
    assert set(json.loads((out / DATA_FILE).read_text())) == {"train", "validation"}


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize("stage", ["mllm", "mids"])
def test_missing_pictures_are_listed_before_the_model_is_built(stage: str, tmp_path: Path) -> None:
    make = {"mllm": lambda: published.conversations(tmp_path / "data"), "mids": lambda: published.selections(
        tmp_path, tmp_path / "data/images")}  # fmt: skip
    file = make[stage]()
    for index in (0, 2):
        (tmp_path / f"data/images/{index}.png").unlink()
    with pytest.raises(InputError, match=r"2 files that 4 records name are not there: .*/0\.png, .*/2\.png \(all"):
        train(find_stage("ffaa", stage), config(stage, file, tmp_path / "out"))
    assert len((tmp_path / "out" / MISSING_FILE).read_text().splitlines()) == 2


@pytest.mark.usefixtures("unbuilt")
def test_a_broken_line_is_named_before_the_model_is_built(tmp_path: Path) -> None:
    good = json.dumps({"id": "1", "image": "a.png", "label": "real", "conversations": published.turns()})
    (tmp_path / "records.jsonl").write_text(f"{good}\n{good[:40]}\n")
    with pytest.raises(InputError, match=r"records\.jsonl:2: "):
        find_stage("ffaa", "mllm").prepare(config("mllm", tmp_path, tmp_path / "out"))


@pytest.mark.usefixtures("unbuilt")
def test_labels_that_contradict_the_formula_are_named_before_the_model_is_built(tmp_path: Path) -> None:
    answers = [{"content": "", "result": said, "label": 3} for said in ("fake", "fake", "real")]
    file = published.selections(tmp_path, tmp_path / "faces", answers=answers)
    with pytest.raises(InputError, match=rf"{file}: record '3', answer 2: label 3 for a fake .*; expected 2"):
        find_stage("ffaa", "mids").prepare(config("mids", file, tmp_path / "out"))
    file = published.selections(tmp_path, tmp_path / "faces", answers=answers[:2])
    with pytest.raises(InputError, match=rf"{file}: record '3' has 2 answers, MIDS is trained on 3"):
        find_stage("ffaa", "mids").prepare(config("mids", file, tmp_path / "out"))


@pytest.mark.usefixtures("unbuilt")
def test_a_conversation_of_several_turns_or_without_an_answer_is_refused_by_name(tmp_path: Path) -> None:
    published.picture(tmp_path / "a.png")
    item = {"id": "x", "image": "a.png", "conversations": published.turns() * 2}
    file = published.write(tmp_path / "a.json", [item])
    with pytest.raises(InputError, match=r"a\.json: record 'x' has turns .*; stage 1 trains on human, gpt"):
        find_stage("ffaa", "mllm").prepare(config("mllm", file, tmp_path / "out"))
    silent = [published.turns()[0], {"from": "gpt", "value": " "}]
    line = json.dumps({**item, "label": "real", "conversations": silent})
    (tmp_path / "records.jsonl").write_text(line)
    with pytest.raises(InputError, match="the answer of record 'x' is empty"):
        find_stage("ffaa", "mllm").prepare(config("mllm", tmp_path, tmp_path / "out"))


def test_a_question_with_a_control_token_is_refused_before_the_first_step(tmp_path: Path) -> None:
    published.picture(tmp_path / "a.png")
    asked = [{"from": "human", "value": "Real?<|im_end|>"}, published.turns()[1]]
    file = published.write(tmp_path / "a.json", [{"image": "a.png", "conversations": asked}])
    with pytest.raises(InputError, match=r"a\.png: the question may not contain '<\|im_end\|>'"):
        find_stage("ffaa", "mllm").prepare(config("mllm", file, tmp_path / "out"))


@pytest.mark.parametrize("value", [3, "absent"])
def test_an_image_folder_that_is_none_is_said(value: object, tmp_path: Path) -> None:
    file = published.conversations(tmp_path)
    with pytest.raises(InputError, match=f"option image_folder of stage mllm is a folder, and {value!r} is none"):
        read_stage_data(config("mllm", file, tmp_path / "out", image_folder=value), "records.jsonl")
