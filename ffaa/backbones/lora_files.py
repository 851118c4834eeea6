"""LoRA adapters in files, folded into the weights they were trained on, one weight at a time.

Two kinds are read: those of the original LLaVA code (``adapter_model`` + ``non_lora_trainables.bin``) and this
project's (``ffaa.backbones.adapter``). W' = W + (alpha / r) B A (arXiv 2106.09685, equation 3), in float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ffaa.backbones.llava_layout import saved_name
from ffaa.backbones.weight_files import open_shard, weight_files
from ffaa.config import read_json
from ffaa.types import InputError

ADAPTER_STEMS = ("adapter_model.safetensors", "adapter_model.bin")
OTHERS_FILE = "non_lora_trainables.bin"
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_UNKNOWN_SETTINGS = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "layer_replication")


@dataclass
class Update:
    """What a training changed, by name as saved."""

    source: Path
    scale: float = 1.0
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Weight -> (A (r, in), B (out, r))."""
    replaced: dict[str, torch.Tensor] = field(default_factory=dict)
    """Tensors that were trained whole."""
    used: dict[str, str] = field(default_factory=dict)
    """Source tensor -> the tensor that it went into."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Source tensor -> why it was left out."""
    base_name: str | None = None
    """What the adapter says it was trained on."""

    def apply(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor after the training; float32 where it changed by an adapter."""
        if name in self.replaced:
            return self.replaced[name]
        if name not in self.pairs:
            return tensor
        down, up = self.pairs[name]
        return tensor.float().addmm(up.float(), down.float(), alpha=self.scale)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Whether it fits the weights of its base (name as saved -> shape). Raises InputError where it does not."""
        wrong = []
        for name, (down, up) in self.pairs.items():
            wanted = (up.shape[0], down.shape[1])
            if shapes.get(name) != wanted:
                wrong.append(f"{name} {wanted} (the base has {shapes.get(name, 'none')})")
        for name, tensor in self.replaced.items():
            if name in shapes and shapes[name] != tuple(tensor.shape):
                wrong.append(f"{name} {tuple(tensor.shape)} (the base has {shapes[name]})")
        if wrong:
            told = f"; it says {self.base_name!r}" if self.base_name else ""
            raise InputError(
                f"{self.source} was trained on another base than the one given: it changes {wrong[0]}"
                f"{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''}{told}"
            )


def read_update(folder: Path) -> Update:
    """The adapters and the tensors trained beside them, whichever of the two kinds the folder holds.

    Raises:
        InputError: files missing or damaged, settings that are not known, halves of an adapter, or unknown names.
    """
    settings = read_json(folder / "adapter_config.json")
    if strange := [key for key in _UNKNOWN_SETTINGS if settings.get(key)]:
        raise InputError(f"{folder / 'adapter_config.json'}: {', '.join(strange)} is not known here")
    if settings.get("bias", "none") != "none":
        raise InputError(f"{folder / 'adapter_config.json'}: adapters with biases are not known here")
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise InputError(f"{folder / 'adapter_config.json'} gives no r and lora_alpha")
    files = weight_files(folder, ADAPTER_STEMS)
    if not files:
        raise InputError(f"{folder} lacks {' or '.join(ADAPTER_STEMS)}")
    published = (folder / OTHERS_FILE).is_file()
    update = Update(folder, alpha / (rank**0.5 if settings.get("use_rslora") else rank))
    update.base_name = settings.get("base_model_name_or_path")
    halves: dict[str, dict[str, tuple[str, torch.Tensor]]] = {}
    for file in [*files, *([folder / OTHERS_FILE] if published else [])]:
        with open_shard(file) as shard:
            for name in shard.names():
                _take(update, halves, name, shard.read(name).clone(), "published" if published else "hf")
    _pair(update, halves, rank)
    if not any(name.startswith("multi_modal_projector.") for name in update.replaced):
        raise InputError(f"{folder} lacks the projector that was trained beside the adapters ({OTHERS_FILE})")
    return update


def _take(
    update: Update,
    halves: dict[str, dict[str, tuple[str, torch.Tensor]]],
    name: str,
    tensor: torch.Tensor,
    layout: str,
) -> None:
    """Put one tensor where it belongs, or refuse it."""
    if found := _LORA.fullmatch(name):
        saved, _ = saved_name(f"{found[1]}.weight", layout)
        if saved is None:
            raise InputError(f"{update.source} holds {name}, an adapter of a layer that LLaVA has not")
        halves.setdefault(saved, {})[found[2]] = (name, tensor)
        return
    saved, reason = saved_name(name.removeprefix("base_model.model."), layout)
    if saved is not None:
        update.replaced[saved] = tensor
        update.used[name] = saved
    elif reason is not None:
        update.dropped[name] = reason
    else:
        raise InputError(f"{update.source} holds {name}, which no LLaVA model has")


def _pair(update: Update, halves: Mapping[str, Mapping[str, tuple[str, torch.Tensor]]], rank: int) -> None:
    for saved, found in halves.items():
        if found.keys() != {"A", "B"}:
            (only,) = found.values()
            raise InputError(f"{update.source} holds {only[0]} without its other half")
        (name_a, down), (name_b, up) = found["A"], found["B"]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != rank or up.shape[1] != rank:
            raise InputError(
                f"{update.source}: {name_a} {tuple(down.shape)} and {name_b} {tuple(up.shape)} are not of rank {rank}"
            )
        if saved.startswith("vision_tower.") and not up.any():
            # The original code wraps the image tower too, by the names of its layers, and never trains it.
            for name in (name_a, name_b):
                update.dropped[name] = "an adapter of the image tower that was never trained: its B is zero"
            continue
        update.pairs[saved] = (down, up)
        update.used |= {name_a: saved, name_b: saved}
