"""A checkpoint holds all that it needs to be loaded elsewhere, and takes its place whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from transformers import AutoProcessor

from ffaa.backbones.adapter import attach_lora, save_adapter
from ffaa.backbones.mllm import build_mllm
from ffaa.config import load_yaml
from ffaa.methods import find_stage, load_method
from ffaa.methods.checkpoint import read_checkpoint
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mids import build_mids, save_mids
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import PROJECT_ROOT, sha256_file
from ffaa.training.trainer import train
from ffaa.types import InputError
from scripts import assemble_checkpoint
from tests.data import published

TINY = PROJECT_ROOT / "configs/ffaa/tiny"


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    arguments = ["--mllm", folder / "mllm", "--mids", folder / "mids", "--out", folder / "out"]
    monkeypatch.setattr(sys, "argv", ["assemble_checkpoint.py", "--model", "tiny", *map(str, arguments), *more])
    return assemble_checkpoint.main()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of both stages, untrained and without what a training says of itself."""
    folder = tmp_path_factory.mktemp("parts")
    config = load_yaml(TINY / "model.yaml", FfaaConfig)
    save_adapter(attach_lora(build_mllm(config.mllm, seed=7), config.mllm, seed=7), folder / "mllm/mllm")
    save_mids(build_mids(config.mids, seed=7), folder / "mids/mids")
    return folder


@pytest.fixture
def made(parts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts, tmp_path / "runs"))


@pytest.mark.parametrize("present", [(), ("mllm",), ("mllm", "mids")])
def test_what_is_missing_or_broken_leaves_the_old_checkpoint(
    present: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out" / "mllm" / "adapter_model.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"weights")
    for part in present:
        (tmp_path / part / part).mkdir(parents=True)
    with pytest.raises(InputError, match="the checkpoint lacks|cannot read" if len(present) == 2 else "no such folder"):
        run(monkeypatch, tmp_path)
    assert old.read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mllm"]
    assert not list(tmp_path.glob(".*"))


def test_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = published.conversations(tmp_path / "data")
    answers = published.selections(tmp_path, tmp_path / "faces")
    for stage, file, pattern in (("mllm", data, "lora_"), ("mids", answers, "classifier")):
        config = StageConfig(
            model="tiny", stage=stage, data=file, output=tmp_path / stage, groups=[ParameterGroup(pattern, 1e-3)],
            max_steps=1, batch_size=2, dtype="float32", device="cpu",
        )  # fmt: skip
        train(find_stage("ffaa", stage), config)
    assert run(monkeypatch, tmp_path) == 0
    assert "does not tell" not in capsys.readouterr().out
    out = tmp_path / "out"
    facts = read_checkpoint(out)
    assert {role: base["hash"] for role, base in facts["bases"].items()}.keys() == {
        "mllm.vision", "mllm.language", "mids.vision", "mids.text",
    }  # fmt: skip
    assert facts["stages"]["mllm"]["data"]["train"]["sha256"] == sha256_file(data)
    assert facts["stages"]["mids"]["data"]["train"]["records"] == 4
    assert facts["stages"]["mids"]["git_revision"] == json.loads((tmp_path / "mids/manifest.json").read_text()).get(
        "git_revision"
    )
    assert load_yaml(out / "stages/mids.yaml", StageConfig).data == answers
    assert load_yaml(out / "model.yaml", FfaaConfig) == load_yaml(TINY / "model.yaml", FfaaConfig)
    processor = AutoProcessor.from_pretrained(out / "processor")
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Real?"}]}
    mllm = build_mllm(load_yaml(TINY / "model.yaml", FfaaConfig).mllm)
    assert processor.apply_chat_template([turn], add_generation_prompt=True) == mllm.prompt("Real?")
    assert processor.tokenizer.get_vocab() == mllm.tokenizer.get_vocab()
    load_method("ffaa", model_dir=out, checkpoint=out, device="cpu")  # its own model.yaml is enough


@pytest.mark.parametrize("first", [True, False])
def test_the_chat_template_begins_with_the_tokenizers_first_token_where_that_adds_one(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffaa.backbones import templates

    monkeypatch.setattr(templates, "adds_bos", lambda tokenizer: first)
    mllm = build_mllm(load_yaml(TINY / "model.yaml", FfaaConfig).mllm)
    assemble_checkpoint.save_processor(mllm, tmp_path)
    saved = (tmp_path / "chat_template.jinja").read_text()
    assert saved.startswith("{{ bos_token }}") == first


def test_other_files_stay_and_a_calibration_of_other_weights_goes(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made / "out"
    run(monkeypatch, made)
    assert "does not tell its data, git revision, options" in capsys.readouterr().out
    (out / "README.md").write_text("a card")
    run(monkeypatch, made)
    assert (out / "README.md").read_text() == "a card"
    (out / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match="is no calibration"):  # of the same weights it is kept, and so read
        run(monkeypatch, made)
    config = load_yaml(TINY / "model.yaml", FfaaConfig)
    save_mids(build_mids(config.mids, seed=8), made / "mids/mids")
    run(monkeypatch, made)
    assert not (out / "calibration.json").exists() and (out / "README.md").exists()


def test_what_a_checkpoint_knows_of_its_parts_goes_with_them(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"train": {"file": "x.json", "sha256": "aa", "records": 1}}
    (made / "mllm/data.json").write_text(json.dumps(known))
    (made / "mllm/train.yaml").write_text("stage: mllm\n")
    run(monkeypatch, made)
    run(monkeypatch, made, "--mllm", str(made / "out"), "--mids", str(made / "out"))
    assert read_checkpoint(made / "out")["stages"]["mllm"]["data"] == known
    assert (made / "out/stages/mllm.yaml").read_text() == "stage: mllm\n"


def test_the_language_model_alone(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(made / "mids")
    assert run(monkeypatch, made, "--method", "llava") == 0
    assert set(read_checkpoint(made / "out")["bases"]) == {"mllm.vision", "mllm.language"}
    assert not (made / "out/mids").exists()
    tiny = PROJECT_ROOT / "configs/llava/tiny"
    assert load_method("llava", model_dir=tiny, checkpoint=made / "out", device="cpu").name == "llava"
    with pytest.raises(InputError, match="holds a checkpoint of method 'llava', wanted ffaa"):
        load_method("ffaa", model_dir=TINY, checkpoint=made / "out", device="cpu")


@pytest.mark.parametrize("moves", [0, 1])
def test_a_kill_at_the_last_steps_loses_nothing(moves: int, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut before the old folder is moved, and between its move and that of the new one."""
    run(monkeypatch, made)
    before = sha256_file(made / "out/mids/model.safetensors")
    config = load_yaml(TINY / "model.yaml", FfaaConfig)
    save_mids(build_mids(config.mids, seed=8), made / "mids/mids")

    class Killed(BaseException):
        pass

    replace = os.replace
    done: list[Path] = []

    def cut(source: str | Path, target: str | Path) -> None:
        if Path(source).name in ("out", ".out.new"):
            if len(done) == moves:
                raise Killed
            done.append(Path(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(Killed):
        run(monkeypatch, made)
    monkeypatch.setattr(os, "replace", replace)
    whole = made / (".out.old" if moves else "out")
    assert sha256_file(whole / "mids/model.safetensors") == before
    with pytest.raises(InputError, match="no such folder"):
        run(monkeypatch, made, "--mids", str(made / "absent"))
    run(monkeypatch, made)
    assert sha256_file(made / "out/mids/model.safetensors") != before
    assert not list(made.glob(".out.*"))
