from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from torch import nn

from ffaa.assets import TABLE
from ffaa.backbones.few_rows import FewRowsLinear
from ffaa.backbones.mllm import MllmConfig
from ffaa.config import load_yaml
from ffaa.methods import checkpoint as checkpoints
from ffaa.methods.checkpoint import CHECKPOINT_FILE, find_checkpoint, load_trained_mllm, mllm_fingerprint, tower_hash
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT, Compute
from ffaa.types import InputError

TINY: MllmConfig = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm
TINY_TOWERS = MllmConfig(vision={"hidden_size": 32}, language={"hidden_size": 48})


def write(folder: Path, **facts: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKPOINT_FILE).write_text(json.dumps({"format": 1, "method": "ffaa", **facts}), encoding="utf-8")
    return folder


def test_the_flag_beats_the_configured_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PROJECT_ROOT", tmp_path)
    configured, other = write(tmp_path / "playground/mini"), write(tmp_path / "runs/a")
    assert find_checkpoint("playground/mini", None, ("ffaa",)) == configured
    assert find_checkpoint("playground/mini", other, ("ffaa",)) == other
    assert find_checkpoint(None, None, ("ffaa",)) is None


def test_a_folder_that_is_not_there_or_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_checkpoint(None, tmp_path / "absent", ("ffaa",))
    with pytest.raises(InputError, match=f"holds no {CHECKPOINT_FILE}"):
        find_checkpoint(None, tmp_path, ("ffaa",))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"method": "other"}, "'other'"),
        ({"format": 3}, "format 1 or 2"),
        ({"format": None}, "format 1 or 2"),
        ({"towers": ["x"]}, "towers"),
        ({"bases": ["x"]}, "bases"),
        ({"bases": {"mllm.base": "x"}}, "bases"),
        ({"bases": {"mllm.base": {"source": "x", "hash": 3}}}, "bases"),
        ({"bases": {"mllm.base": {"hash": "x"}}}, "bases"),
    ],
)
def test_a_checkpoint_of_another_kind(tmp_path: Path, facts: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        find_checkpoint(None, write(tmp_path, **facts), ("ffaa", "llava"))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_checkpoint_file(tmp_path: Path, text: str) -> None:
    (tmp_path / CHECKPOINT_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        find_checkpoint(None, tmp_path, ("ffaa",))


def test_other_weights_beneath_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = next(iter(TABLE))
    manifest = {"files": {"model.safetensors": {"sha256": "aa"}}}
    monkeypatch.setattr(checkpoints, "read_manifest", lambda asked: manifest if asked == name else None)
    with caplog.at_level(logging.WARNING):
        find_checkpoint(None, write(tmp_path, towers={name: "aa", "unknown": "x"}), ("ffaa",))
        assert not caplog.records
        find_checkpoint(None, write(tmp_path, towers={name: "bb"}), ("ffaa",))
        assert name in caplog.text


def test_few_rows_are_multiplied_their_own_way_in_float32_alone(tmp_path: Path) -> None:
    def layers(dtype: str) -> set[type]:
        mllm = load_trained_mllm(TINY, None, tmp_path, compute=Compute("cpu", dtype), seed=0)
        return {type(module) for module in mllm.model.modules() if isinstance(module, nn.Linear)}

    assert FewRowsLinear in layers("float32") and nn.Linear not in layers("float32")
    assert layers("bfloat16") == {nn.Linear}


def test_tower_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "read_manifest", lambda _: None)
    name = next(iter(TABLE))
    assert tower_hash(name) == TABLE[name].sha256
    assert tower_hash("openai/clip-vit-large-patch14-336") == "openai/clip-vit-large-patch14-336"
    assert tower_hash({"a": 1}) == tower_hash({"a": 1}) != tower_hash({"a": 2})


def test_the_fingerprint_follows_configuration_and_weights(tmp_path: Path) -> None:
    plain = mllm_fingerprint(TINY_TOWERS, None)
    assert plain != mllm_fingerprint(MllmConfig(vision={"hidden_size": 64}, language={"hidden_size": 48}), None)
    weights = tmp_path / "mllm" / "w"
    weights.parent.mkdir()
    weights.write_text("1", encoding="utf-8")
    first = mllm_fingerprint(TINY_TOWERS, tmp_path)
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    assert mllm_fingerprint(TINY_TOWERS, tmp_path) == first
    weights.write_text("2", encoding="utf-8")
    assert mllm_fingerprint(TINY_TOWERS, tmp_path) != first
    assert plain.items() < first.items()


def test_an_untrained_projector_is_refused() -> None:
    with pytest.raises(InputError, match="untrained"):
        load_trained_mllm(MllmConfig(), None, PROJECT_ROOT, compute=Compute("cpu", "float32"), seed=0)
