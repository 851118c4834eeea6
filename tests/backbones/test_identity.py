"""A base is named by its weights: the same however they are kept, another for any that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ffaa.backbones import identity
from ffaa.backbones.identity import base_hash, local_folder
from ffaa.types import InputError

WEIGHTS = {"a.weight": torch.arange(4096.0).reshape(64, 64), "b.bias": torch.ones(3), "c": torch.tensor(2.0)}


def write(folder: Path, weights: dict[str, torch.Tensor] = WEIGHTS, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 64, **config}))
    return folder


def shards(folder: Path) -> Path:
    """The same weights in two files and an index of them."""
    write(folder)
    (folder / "model.safetensors").unlink()
    places = {"a.weight": "one.safetensors", "b.bias": "two.safetensors", "c": "two.safetensors"}
    for shard in set(places.values()):
        save_file({name: WEIGHTS[name] for name in places if places[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_the_same_weights_have_one_hash(tmp_path: Path) -> None:
    first = base_hash(str(write(tmp_path / "a")))
    assert first is not None and len(first) == 64
    moved = write(tmp_path / "b", transformers_version="9.9", _name_or_path="elsewhere")
    (moved / "README.md").write_text("a card")
    assert base_hash(str(moved)) == first
    assert base_hash(str(shards(tmp_path / "c"))) == first


@pytest.mark.parametrize("place", [0, 1234, 4095])
def test_any_training_of_a_tensor_is_seen(place: int, tmp_path: Path) -> None:
    """Of a tensor that is longer than what is read of it: where a stretch lies, one number is enough."""
    tuned = WEIGHTS["a.weight"] + (torch.arange(4096.0) >= place).reshape(64, 64)
    folder = write(tmp_path / "a")
    assert base_hash(str(write(tmp_path / "b", {**WEIGHTS, "a.weight": tuned}))) != base_hash(str(folder))


def test_small_tensors_shapes_types_and_names_count(tmp_path: Path) -> None:
    others = [
        {**WEIGHTS, "b.bias": torch.tensor([1.0, 1.0, 2.0])},
        {**WEIGHTS, "a.weight": WEIGHTS["a.weight"].reshape(32, 128)},
        {**WEIGHTS, "b.bias": torch.ones(3).view(torch.int32)},
        {"a.weight": WEIGHTS["a.weight"], "b.bias": WEIGHTS["b.bias"], "d": WEIGHTS["c"]},
    ]
    hashes = [base_hash(str(write(tmp_path / str(index), one))) for index, one in enumerate([WEIGHTS, *others])]
    assert len(set(hashes)) == 5


def test_the_configuration_tokenizer_and_template_count(tmp_path: Path) -> None:
    folder = write(tmp_path)
    hashes = [base_hash(str(folder)), base_hash(str(write(folder, hidden_act="relu")))]
    for name in ("tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text("x")
        hashes.append(base_hash(str(folder)))
    assert len(set(hashes)) == 4


def test_a_changed_file_is_read_again_and_pickled_weights_are_read_whole(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    first = base_hash(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"other")
    assert first is not None and base_hash(str(folder)) not in (first, None)


def test_a_base_that_is_not_all_there_has_no_hash(tmp_path: Path) -> None:
    assert base_hash("nobody/nothing") is None and base_hash("no/hub/id") is None
    (tmp_path / "empty").mkdir()
    assert base_hash(str(tmp_path / "empty")) is None
    folder = shards(tmp_path / "half")
    (folder / "two.safetensors").unlink()
    assert base_hash(str(folder)) is None


def test_a_base_of_the_hub_is_its_copy_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path)
    found: dict[str, object] = {"a/b": str(folder / "config.json"), "a/gone": object()}  # known to have no such file
    monkeypatch.setattr(identity, "try_to_load_from_cache", lambda source, _: found.get(source))
    assert local_folder("a/b") == folder and base_hash("a/b") == base_hash(str(folder))
    assert local_folder("a/gone") is None and local_folder("a/c") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\xff" * 40),
        ("model.safetensors", b"\x05"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("model.safetensors.index.json", b"{}"),
    ],
)
def test_damaged_files_are_said(name: str, content: bytes, tmp_path: Path) -> None:
    folder = write(tmp_path)
    if "index" in name:
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot"):
        base_hash(str(folder))
