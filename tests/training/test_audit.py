"""What must not change is compared exactly, and a stage that changes it is stopped by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ffaa.methods import find_stage
from ffaa.methods.base import StageRun
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.training.audit import fingerprint, fingerprints, refuse_adapted_towers, refuse_changes
from ffaa.training.trainer import train
from ffaa.types import InputError


@given(st.integers(0, 39), st.integers(0, 7), st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
def test_any_one_bit_changes_a_fingerprint(place: int, bit: int, dtype: torch.dtype) -> None:
    tensor = torch.arange(5 * 8).reshape(5, 8).to(dtype)
    before = fingerprint(tensor)
    changed = tensor.clone().view(torch.uint8)
    changed.view(-1)[place * tensor.element_size()] ^= 1 << bit
    assert fingerprint(changed.view(dtype)) != before


def test_two_numbers_that_change_places_change_a_fingerprint() -> None:
    tensor = torch.tensor([1.0, 2.0, 3.0])
    assert fingerprint(tensor) != fingerprint(tensor[[1, 0, 2]])


def test_a_scalar_and_a_view_have_fingerprints() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert fingerprint(matrix.T) == fingerprint(matrix.T.contiguous()) != fingerprint(matrix)
    assert fingerprint(torch.tensor(2.0)) != fingerprint(torch.tensor(3.0))


def test_changes_are_named_and_what_learns_may_change() -> None:
    linear = nn.Linear(2, 2)
    model = nn.Sequential(linear, nn.BatchNorm1d(2))
    linear.weight.requires_grad_(False)
    before = fingerprints(model)
    with torch.no_grad():
        linear.bias.add_(1)
    refuse_changes(before, model)
    with torch.no_grad():
        linear.weight[0, 0].add_(1e-3)
    with pytest.raises(RuntimeError, match="1 tensors that it must not change, such as 0.weight"):
        refuse_changes(before, model)


class Careless:
    """A stage whose model moves a frozen number in every forward pass."""

    name = "careless"

    def prepare(self, config: StageConfig) -> StageRun:
        run = find_stage("ffaa", "mids").prepare(config)
        frozen = next(p for p in run.model.parameters() if not p.requires_grad)

        def move(*_: Any) -> None:
            frozen.data.view(-1)[0] += 1

        run.model.register_forward_pre_hook(move)
        return run


def test_a_stage_that_changes_what_is_frozen_is_stopped(data: Path, tmp_path: Path) -> None:
    config = StageConfig(
        model="tiny", stage="mids", data=data, output=tmp_path, groups=[ParameterGroup(".*", 1e-3)], max_steps=1
    )
    with pytest.raises(RuntimeError, match="must not change, such as image_encoder"):
        train(Careless(), replace(config, dtype="float32", device="cpu"))


def test_adapters_on_a_tower_are_refused() -> None:
    model = nn.ModuleDict({"vision_tower": nn.ModuleDict({"lora_A": nn.Linear(2, 2)})})
    with pytest.raises(InputError, match="LoRA was attached to the vision tower: vision_tower.lora_A.weight"):
        refuse_adapted_towers(model)
    refuse_adapted_towers(nn.ModuleDict({"language_model": nn.ModuleDict({"lora_A": nn.Linear(2, 2)})}))
