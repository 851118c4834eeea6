"""What a stage must not change: looked at before its first step and after its last."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ffaa.types import InputError

log = logging.getLogger(__name__)

TOWERS = ("vision_tower", "image_encoder", "vision_model", "visual", "vision_encoder")
"""Names under which models keep what sees."""


def refuse_adapted_towers(model: nn.Module) -> None:
    """Raises InputError where LoRA was attached to a vision tower: peft matches names by their ends, and CLIP's
    projections are called as a language model's are. Such adapters never learn where the tower runs without a graph.
    """
    names = [name for name, parameter in model.named_parameters() if "lora_" in name and parameter.requires_grad]
    wrong = [name for name in names if any(part in TOWERS for part in name.split("."))]
    if wrong:
        raise InputError(f"LoRA was attached to the vision tower: {wrong[0]} and {len(wrong) - 1} more")


def frozen_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and content of all parameters that do not learn, and of all buffers; of what ZeRO cut, this rank's part."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, getattr(parameter, "ds_tensor", parameter).detach()
    yield from model.named_buffers()


@torch.no_grad()
def fingerprint(tensor: Tensor) -> tuple[int, int]:
    """Two sums over a tensor's bytes, plain and weighted by place, modulo 2^64: any one changed byte changes both."""
    values = tensor.contiguous().view(-1).view(torch.uint8)
    plain = weighted = 0
    for start in range(0, len(values), 1 << 24):  # as int64 the bytes of a large matrix would not fit beside it
        block = values[start : start + (1 << 24)].long()
        places = torch.arange(start + 1, start + 1 + len(block), device=block.device)
        plain += int(block.sum())
        weighted += int((block * places).sum())
    return plain % 2**64, weighted % 2**64


def fingerprints(model: nn.Module) -> dict[str, tuple[int, int]]:
    """A fingerprint of every tensor that must not change."""
    return {name: fingerprint(tensor) for name, tensor in frozen_tensors(model)}


def refuse_changes(before: Mapping[str, tuple[int, int]], model: nn.Module) -> None:
    """Raises RuntimeError, a bug of the stage, naming frozen tensors that are no longer what they were."""
    after = fingerprints(model)
    changed = [name for name in before if after.get(name) != before[name]]
    if changed:
        raise RuntimeError(f"training changed {len(changed)} tensors that it must not change, such as {changed[0]}")


class FreezeAudit(TrainerCallback):
    """Compares what is frozen at the end with the start; begins once the model is where, and as, it is trained."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before: dict[str, tuple[int, int]] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.before = fingerprints(self.model)
        count = sum(tensor.numel() for _, tensor in frozen_tensors(self.model))
        log.info("freeze audit: %d tensors of %d numbers must not change", len(self.before), count)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        refuse_changes(self.before, self.model)
        log.info("freeze audit: none of %d tensors has changed", len(self.before))
