"""A checkpoint is loaded onto what it was trained on, and says by name what stands there instead."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffaa.assets import TABLE
from ffaa.backbones.adapter import attach_lora, save_adapter
from ffaa.backbones.generation import GenerationSettings
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.config import load_yaml
from ffaa.methods import checkpoint as checkpoints
from ffaa.methods.checkpoint import (
    CHECKPOINT_FILE,
    base_hashes,
    conversation_hash,
    describe_bases,
    load_trained_mllm,
    mllm_bases,
    on_its_bases,
    read_checkpoint,
    writer_identity,
)
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT, Compute
from ffaa.types import InputError

TINY: MllmConfig = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm
CPU = Compute("cpu", "float32")


def write(folder: Path, bases: dict[str, Any], **facts: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKPOINT_FILE).write_text(json.dumps({"format": 2, "method": "llava", "bases": bases, **facts}))
    return folder


def save_base(folder: Path, seed: int) -> Path:
    """A whole image-text model of random weights, as the hub holds one."""
    mllm = build_mllm(TINY, seed=seed)
    mllm.model.save_pretrained(folder)
    mllm.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base`` and ``trained``, a checkpoint on it."""
    folder = tmp_path_factory.mktemp("made")
    config = replace(TINY, base=str(save_base(folder / "base", 0)))
    mllm = build_mllm(config)
    write(folder / "trained", describe_bases(mllm_bases(config)), conversation=conversation_hash(mllm))
    save_adapter(attach_lora(mllm, config), folder / "trained/mllm")
    return folder


def load(config: MllmConfig, checkpoint: Path) -> None:
    load_trained_mllm(config, checkpoint, checkpoint, compute=CPU, seed=0)


def test_the_same_base_fits_wherever_it_stands(made: Path, tmp_path: Path) -> None:
    load(replace(TINY, base=str(made / "base")), made / "trained")
    shutil.copytree(made / "base", tmp_path / "elsewhere")
    load(replace(TINY, base=str(tmp_path / "elsewhere")), made / "trained")


def test_another_base_is_refused_and_both_are_named(made: Path, tmp_path: Path) -> None:
    other = save_base(tmp_path / "tuned", 1)
    with pytest.raises(
        InputError, match=rf"was trained on mllm.base {made}/base \(\w{{8}}\), not on mllm.base {other}"
    ):
        load(replace(TINY, base=str(other)), made / "trained")
    with pytest.raises(InputError, match=r"was trained on mllm.base .*, not on mllm.vision .*, mllm.language "):
        load(TINY, made / "trained")


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_another_template_of_the_base_makes_it_another(file: str, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made / "base", tmp_path / "base"))
    (other / file).write_text((other / file).read_text() + "\n")
    with pytest.raises(InputError, match="was trained on mllm.base"):
        load(replace(TINY, base=str(other)), made / "trained")


def test_another_layout_of_the_conversation_is_refused(made: Path) -> None:
    with pytest.raises(InputError, match="another tokenizer or layout of the conversation than .* 'vicuna_v1'"):
        load(replace(TINY, base=str(made / "base"), template="vicuna_v1"), made / "trained")


def test_a_checkpoint_of_format_1_is_read_as_before(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "trained/mllm", tmp_path / "mllm")
    (tmp_path / CHECKPOINT_FILE).write_text(json.dumps({"format": 1, "method": "ffaa"}))
    load(replace(TINY, base=str(made / "base")), tmp_path)
    assert read_checkpoint(PROJECT_ROOT / "playground/mini")["method"] == "ffaa"


def test_another_copy_of_an_asset_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = list(TABLE)[:2]
    folder = write(tmp_path, {"mids.vision": {"source": one, "hash": "aa"}})
    with caplog.at_level(logging.WARNING), on_its_bases(folder, {"mids.vision": one}):
        pass
    assert f"another copy of {one}" in caplog.text
    with (
        pytest.raises(InputError, match=f"was trained on mids.vision {one}"),
        on_its_bases(folder, {"mids.vision": two}),
    ):
        raise AssertionError("loaded")
    with on_its_bases(folder, {"mllm.base": "of another part"}):
        pass


def test_a_base_that_has_to_be_fetched_is_checked_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: dict[str, str] = {}
    monkeypatch.setattr(checkpoints, "base_hash", fetched.get)
    folder = write(tmp_path, {"mllm.base": {"source": "a/b", "hash": "11"}})

    def fetch(found: str) -> None:
        fetched.clear()
        with on_its_bases(folder, {"mllm.base": "a/b"}):
            fetched["a/b"] = found

    fetch("11")
    with pytest.raises(InputError, match=r"mllm.base a/b \(11\), not on mllm.base a/b \(22\)"):
        fetch("22")


def test_answers_are_known_by_the_base_s_weights_even_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = {"a/b": "11"}
    monkeypatch.setattr(checkpoints, "base_hash", fetched.get)
    folder = write(tmp_path, describe_bases({"mllm.base": "a/b"}))
    here = base_hashes({"mllm.base": "a/b"}, folder)
    fetched.clear()
    assert here == base_hashes({"mllm.base": "a/b"}, folder) == {"mllm_base": "11"}
    assert base_hashes({"mllm.base": "a/b"}, None) == {"mllm_base": "a/b"}


def test_the_identity_of_kept_answers_follows_a_folder_s_weights_and_template(made: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(made / "base", tmp_path / "base"))

    def identity() -> dict[str, Any]:
        return writer_identity(replace(TINY, base=str(base)), None, GenerationSettings(), CPU)

    def retrain() -> None:
        shutil.rmtree(base)
        save_base(base, 1)

    def retell() -> None:
        (base / "chat_template.jinja").write_text("another")

    changes: list[Callable[[], None]] = [retrain, retell]
    seen = [identity()]
    for change in changes:
        change()
        seen.append(identity())
    assert len({one["mllm_base"] for one in seen}) == 3


def test_the_identity_of_answers_of_the_shipped_sizes_stays() -> None:
    """Pinned: answers that were kept, and the calibration, are known by it."""
    mini = load_yaml(PROJECT_ROOT / "configs/ffaa/mini/model.yaml", FfaaConfig).mllm
    found = writer_identity(mini, PROJECT_ROOT / "playground/mini", GenerationSettings(160), CPU)
    assert found["mllm"] == "2be5a949" and set(found) == {
        "mllm", "mllm_vision", "mllm_language", "mllm_checkpoint", "max_new_tokens", "temperature", "seed", "dtype",
    }  # fmt: skip
    tiny = writer_identity(TINY, None, GenerationSettings(24), CPU)
    assert (tiny["mllm"], tiny["mllm_vision"], tiny["mllm_language"]) == ("5a515532", "7c0ec90c", "2c972b28")
    assert tiny["seed"] == 0
