"""FFAA's published weights (arXiv 2408.10072) to this project's checkpoint: the selector's, and both parts together.

The language model is converted by ``ffaa.backbones.llava_convert``, since any LLaVA is laid out alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ffaa.backbones.adapter import check_tensors
from ffaa.backbones.llava_convert import Account
from ffaa.backbones.shapes import shape_of
from ffaa.backbones.weight_files import open_shard
from ffaa.methods.ffaa.mids import CONFIG_FILE, WEIGHTS_FILE, MidsConfig, build_mids
from ffaa.runtime import atomic_write_text
from ffaa.types import InputError

_STREAM = {"1": "streams.0", "2": "streams.1"}
"""``layer1`` is the tower's last hidden state, ``layer2`` the one before."""
_BLOCK = {"tii": "text_reads_image", "itt": "image_reads_text"}
_POOL = {"tii": "text_pool", "itt": "image_pool"}
_QUERY = {"tii": "text_query", "itt": "image_query"}
_TOWER_LAYER = r"image_encoder\.(?:vision_model\.)?encoder\.layers\.(\d+)\.(.+)"


def published_mids(tensors: Mapping[str, torch.Tensor], source: Path) -> tuple[dict[str, torch.Tensor], Account]:
    """The tensors of ``mids.pth`` by this project's names, and what became of each.

    Its attention holds query, key and value one above the other in one matrix; here they are three.

    Raises:
        InputError: a name that the published selector has not; says what the file looks like.
    """
    found: dict[str, torch.Tensor] = {}
    account = Account()
    unknown = []
    for name, tensor in tensors.items():
        bare = name.removeprefix("module.")
        if bare.endswith(".position_ids"):
            account.dropped[name] = "a buffer: the row numbers 0, 1, ..., which the tower makes itself"
            continue
        target = _target(bare)
        if target is None:
            unknown.append(name)
        elif bare.endswith((".in_proj_weight", ".in_proj_bias")):
            kind = "weight" if bare.endswith("weight") else "bias"
            if tensor.shape[0] % 3:
                raise InputError(f"{source}: {name} {tuple(tensor.shape)} is no query, key and value")
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"{target}.{part}.{kind}"] = third
            account.used[name] = f"{target}.{{query,key,value}}.{kind}"
        else:
            found[target] = tensor
            account.used[name] = target
    if unknown or not found:
        raise InputError(f"{source} is no selector of FFAA: {_looks_like(unknown)}")
    return found, account


def _target(name: str) -> str | None:
    """This project's name of a published tensor; for those of an attention's joint matrix that of the attention."""
    if layer := re.fullmatch(_TOWER_LAYER, name):
        return f"image_encoder.encoder.layers.{layer[1]}.{layer[2]}"
    if projector := re.fullmatch(r"(projector|cls_token)_layer([12])\.(weight|bias)", name):
        kind = "projector" if projector[1] == "projector" else "class_projector"
        return f"{_STREAM[projector[2]]}.{kind}.{projector[3]}"
    if query := re.fullmatch(r"fusion_block\.lr_(tii|itt)([12])", name):
        return f"{_STREAM[query[2]]}.{_QUERY[query[1]]}"
    if block := re.fullmatch(r"fusion_block\.cr_(tii|itt)([12])(_lr)?\.(.+)", name):
        kind = (_POOL if block[3] else _BLOCK)[block[1]]
        return _inside(f"{_STREAM[block[2]]}.{kind}", block[4])
    if block := re.fullmatch(r"se_attn\.([0-2])\.(.+)", name):
        return _inside(f"self_blocks.{block[1]}", block[2])
    return name if re.fullmatch(r"classifier\.(weight|bias)", name) else None


def _inside(block: str, rest: str) -> str | None:
    """A name within one attention block."""
    if rest in ("norm.weight", "norm.bias"):
        return f"{block}.{rest}"
    if rest in ("cross_attn.in_proj_weight", "cross_attn.in_proj_bias"):
        return f"{block}.attention"
    if out := re.fullmatch(r"cross_attn\.out_proj\.(weight|bias)", rest):
        return f"{block}.attention.out.{out[1]}"
    return None


def _looks_like(names: Sequence[str]) -> str:
    names = [name.removeprefix("module.") for name in names]
    if any("mm_projector" in name for name in names):
        return "it looks like a LLaVA's projector or language model (--source)"
    if any("lora_A" in name for name in names):
        return "it looks like LoRA adapters (--source)"
    if any(name.startswith(("streams.", "self_blocks.")) for name in names):
        return "it looks like a selector of this project, which needs no conversion"
    return f"it holds {', '.join(names[:3]) or 'nothing'}"


def convert_mids(file: Path, out: Path, config: MidsConfig) -> tuple[MidsConfig, Account]:
    """Write the selector of a published ``mids.pth`` into the folder ``out``, as `load_mids` reads it.

    Args:
        file: a pickle of the trained tensors, with or without the prefix ``module.``.
        out: folder, made where it is missing.
        config: towers and the options that the weights depend on; sizes are checked against the file.

    Returns:
        The configuration as recorded (how many of the tower's layers were trained is read from the file), and the
        account.

    Raises:
        InputError: another file than a selector's, damaged, not numbers, or of other sizes than ``config``.
    """
    with open_shard(file) as shard:
        tensors, account = published_mids({name: shard.read(name) for name in shard.names()}, file)
        layers = {int(found[1]) for name in tensors if (found := re.fullmatch(_TOWER_LAYER, name))}
        recorded = replace(config, unfreeze_last=len(layers))
        shapes = replace(recorded, vision=shape_of(config.vision, "vision"), text=shape_of(config.text, "text"))
        wanted = build_mids(shapes, device="meta").trainable_state()
        check_tensors(wanted, tensors, file)
        out.mkdir(parents=True, exist_ok=True)
        copies = {name: tensors[name].float().contiguous().clone() for name in sorted(tensors)}
        save_file(copies, out / WEIGHTS_FILE, metadata={"format": "pt"})
    atomic_write_text(out / CONFIG_FILE, json.dumps(asdict(recorded), indent=2, sort_keys=True) + "\n")
    return recorded, account


def as_published(config: MidsConfig, **options: Any) -> MidsConfig:
    """The options that FFAA's published figures were computed with, unless others are given.

    Padding is attended to (each picture's own answers padded together), answers are masked, pictures are RGB although
    training read them as BGR; the trained tower layers had been re-initialised, which changes nothing afterwards.
    """
    published = {"padding_mask": False, "mask_answers": True, "channel_order": "rgb", "reinit_unfrozen": True}
    return replace(config, **{**published, **options})
