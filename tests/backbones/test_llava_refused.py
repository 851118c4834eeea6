"""What is wrong with a published checkpoint is said in one line that names the file and what it looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ffaa.types import InputError
from tests.backbones import published_llava as published
from tests.backbones.published_llava import convert, lora


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write(tmp_path_factory.mktemp("published"), published.weights(), published.settings())


def broken(folder: Path, what: str) -> Path:
    tensors, values = published.weights(), published.settings()
    if what == "nan":
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    elif what == "misshapen":
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(8, 8)
    elif what == "lacking":
        del tensors["model.layers.0.self_attn.k_proj.weight"]
    elif what == "unknown":
        tensors["model.resampler.query"] = torch.zeros(3)
    elif what == "vocabulary":
        values["vocab_size"] = 500
    elif what == "deeper":
        values["num_hidden_layers"] = 3
    elif what == "projector":
        values["mm_projector_type"] = "linear"
    elif what == "ends":
        values["mm_use_im_start_end"] = True
    published.write(folder, tensors, values, kind="safetensors3" if what == "cut_safetensors" else "bin3")
    shard = folder / "pytorch_model-00002-of-00003.bin"
    if what == "shard":
        shard.unlink()
    elif what == "cut":
        shard.write_bytes(shard.read_bytes()[:-5000])
    elif what == "cut_safetensors":
        file = folder / "model-00002-of-00003.safetensors"
        file.write_bytes(file.read_bytes()[:-5000])
    elif what == "code":
        torch.save({"model.norm.weight": Path("x")}, shard)
    elif what == "lists":
        torch.save({"model.norm.weight": [1.0]}, shard)
    elif what == "pointer":
        shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    elif what == "no_tokenizer":
        (folder / "tokenizer.model").unlink()
    elif what == "no_model":
        (folder / "tokenizer.model").write_bytes(b"nothing")
    elif what == "other_tokenizer":
        (folder / "tokenizer.model").write_bytes(published.sentencepiece_model(450))
    return folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", r"pytorch_model-0000\d-of-00003.bin: model.layers.1.mlp.up_proj.weight holds NaN or infinity"),
        ("misshapen", r"layers.1.mlp.up_proj.weight is \(8, 8\), wanted \(96, 64\)"),
        ("lacking", "1 missing .*layers.0.self_attn.k_proj.weight"),
        ("unknown", "holds 1 tensors that no LLaVA model has: model.resampler.query"),
        ("vocabulary", "420 tokens have a row, but its config.json says 500"),
        ("deeper", "9 missing .*layers.2."),
        ("projector", "mm_projector_type is 'linear'; only mlp2x_gelu is known"),
        ("ends", "mm_use_im_start_end"),
        ("shard", "lacks pytorch_model-00002-of-00003.bin, which pytorch_model.bin.index.json names"),
        ("cut", "pytorch_model-00002-of-00003.bin is cut short or damaged"),
        ("cut_safetensors", "model-00002-of-00003.safetensors is cut short or damaged"),
        ("code", r"00002-of-00003.bin holds more than tensors \(.*Path.*\); loading it could run code"),
        ("lists", "is no mapping of names to tensors but of list"),
        ("pointer", "is only a Git LFS pointer"),
        ("no_tokenizer", "holds no tokenizer"),
        ("no_model", "is no sentencepiece model"),
        ("other_tokenizer", "holds the tokenizer of another model: 450 tokens, but only 420 have a row"),
    ],
)
def test_what_is_wrong_is_said(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        convert(broken(tmp_path / "in", what), tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "no_base",
            r"holds LoRA adapters; give the model that they were trained on \(--base\), which it calls 'liuhao",
        ),
        ("other_base", r"was trained on another base than the one given: it changes .*\(the base has \(32, 32\)\)"),
        ("no_projector", "lacks the projector that was trained beside the adapters"),
        ("half", "without its other half"),
        ("rank", "are not of rank 8"),
        ("needless_base", "holds no LoRA adapters, so --base has no meaning"),
        ("lora_as_base", "it looks like LoRA adapters, which need their base"),
    ],
)
def test_what_is_wrong_with_lora_is_said(what: str, said: str, source: Path, tmp_path: Path) -> None:
    folder, base = tmp_path / "lora", source
    lora(folder, published.weights())
    file = folder / "adapter_model.bin"
    tensors = torch.load(file, weights_only=True)
    if what == "other_base":
        values = published.settings(hidden_size=32)
        base = published.write(tmp_path / "base", published.weights(width=32), values)
    elif what == "no_projector":
        (folder / "non_lora_trainables.bin").unlink()
        renamed = {n.replace("model.layers", "model.language_model.layers"): t for n, t in tensors.items()}
        torch.save({name: one for name, one in renamed.items() if "tower" not in name}, file)
    elif what == "half":
        del tensors[next(name for name in tensors if "lora_B" in name)]
        torch.save(tensors, file)
    elif what == "rank":
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 6}))
    with pytest.raises(InputError, match=said):
        if what == "needless_base":
            convert(source, tmp_path / "out", base=source)
        elif what == "lora_as_base":
            (folder / "config.json").unlink()
            convert(folder, tmp_path / "out", base=folder)
        else:
            convert(folder, tmp_path / "out", base=None if what == "no_base" else base)


def test_a_model_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    with pytest.raises(InputError, match="it looks like a model of type 'qwen2_5_vl'"):
        convert(tmp_path / "in", tmp_path / "out")
