"""``--dry_run``: the published sizes, steps as the Trainer counts them, memory as DeepSpeed and a real step have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train as door
from ffaa.backbones.adapter import with_lora
from ffaa.backbones.mllm import build_mllm
from ffaa.backbones.shapes import llava_config, meta_llava, shape_of
from ffaa.config import CONFIGS, load_yaml, read_yaml
from ffaa.methods import find_stage
from ffaa.methods.base import Outlines
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.stage_config import Assumed, ParameterGroup, StageConfig
from ffaa.training.memory import BUCKET, MAX_LIVE, STRATEGIES, Sizes, activations, model_states, on_device
from ffaa.training.plan import Plan, describe, make_plan
from ffaa.training.trainer import StageTrainer, training_arguments
from ffaa.types import InputError
from tests.training.test_trainer import mllm_config

STAGE_FILES = sorted(path for path in (CONFIGS / "ffaa").glob("*/*.yaml") if path.name != "model.yaml")
MODEL_FILES = sorted((CONFIGS / "ffaa").glob("*/model.yaml"))


def planned(name: str, **changes: Any) -> Plan:
    config = replace(load_yaml(CONFIGS / "ffaa" / f"{name}.yaml", StageConfig), **changes)
    return make_plan(find_stage("ffaa", config.stage), config)


@pytest.fixture(scope="module")
def published() -> Iterator[Plan]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WORLD_SIZE", raising=False)
        yield planned("mistral/mllm", data=Path("not-there"))


@pytest.mark.parametrize("path", STAGE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_stage_s_file_is_one(path: Path) -> None:
    config = load_yaml(path, StageConfig)
    assert (CONFIGS / config.method / config.model / "model.yaml").is_file()
    assert find_stage(config.method, config.stage).name == config.stage
    assert config.groups


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.parent.name)
def test_every_model_s_file_is_one(path: Path) -> None:
    load_yaml(path, FfaaConfig)


def test_stage_1_at_the_published_size(published: Plan) -> None:
    assert [(group.parameters, group.lr) for group in published.groups] == [(83_886_080, 1e-4), (20_979_712, 2e-5)]
    # 7.566 B as loaded; peft keeps the base's own projector beside the one that learns.
    assert sum(published.frozen.values()) == 7_566_219_264
    assert published.frozen["vision tower"] == 303_507_456
    assert (published.steps_per_epoch, published.steps, published.warmup_steps) == (1250, 3750, 113)
    assert published.tokens == 576 + 400 and published.global_batch == 16
    # What the paper used: two cards of 24 GB, ZeRO-3, checkpointing. Without the latter it could not have been.
    card = 24e9
    spread = on_device(published.memory["ZeRO-3"])
    assert spread + published.activations[True] < card < spread + published.activations[False]


def test_the_published_plan_as_it_is_printed(published: Plan) -> None:
    text = describe(published)
    for number in ("83,886,080", "20,979,712", "3,750", "113", "20,000   assumed", "computed, not measured"):
        assert number in text
    assert max(map(len, text.splitlines())) <= 120


def test_mids_at_the_published_size() -> None:
    plan = planned("mistral/mids", data=Path("not-there"))
    assert plan.trained == 53_972_484
    assert [group.parameters for group in plan.groups] == [25_192_448, 28_780_036]
    assert plan.frozen["text encoder"] == 109_628_544
    assert (plan.steps_per_epoch, plan.steps, plan.warmup_steps) == (625, 1250, 38)
    assert set(plan.activations) == {False}


def test_phi_s_fused_layers_are_adapted_and_its_vision_tower_is_not() -> None:
    config = load_yaml(CONFIGS / "ffaa/phi/model.yaml", FfaaConfig).mllm
    model = with_lora(meta_llava(llava_config(config)), config)
    adapted = {name for name, parameter in model.named_parameters() if "lora_" in name and parameter.requires_grad}
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in adapted} == {
        "qkv_proj", "o_proj", "gate_up_proj", "down_proj"
    }  # fmt: skip
    assert len(adapted) == 32 * 4 * 2 and not [name for name in adapted if "vision_tower" in name]


def test_four_bits_hold_the_language_model_s_layers_in_a_quarter_of_the_bytes(published: Plan) -> None:
    plan = planned("mistral/mllm_qlora", data=Path("not-there"))
    assert list(plan.memory) == ["ZeRO-0", "ZeRO-2"]
    layers = 6_979_321_856 + 266_240  # of which the norms stay
    norms = 65 * 4096
    packed = published.memory["ZeRO-0"]["frozen weights"] - plan.memory["ZeRO-0"]["frozen weights"]
    saved_a_number = 2 - (0.5 + 1 / 64 + 1 / (64 * 64))
    assert packed == pytest.approx((layers - norms) * saved_a_number, rel=1e-3)
    assert on_device(plan.memory["ZeRO-0"]) + plan.activations[True] < 0.7 * 24e9


def test_shapes_agree_with_what_is_built() -> None:
    config = load_yaml(CONFIGS / "ffaa/tiny/model.yaml", FfaaConfig).mllm
    model = meta_llava(llava_config(config))
    real = build_mllm(config).model
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}


def test_an_unknown_shape_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither in shapes.yaml nor to be read"):
        shape_of(str(tmp_path / "nothing"), "language")


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (3, 1), (3, 2), (1, 3)])
def test_steps_and_warm_up_are_the_trainer_s(data: Path, tmp_path: Path, batch: int, accumulation: int) -> None:
    config = replace(mllm_config(data, tmp_path / "out"), batch_size=batch, accumulation=accumulation, warmup_share=0.3)
    stage = find_stage("ffaa", "mllm")
    plan = make_plan(stage, config)
    assert plan.counted == {"samples": True, "texts": True} and plan.samples == 8
    trainer = StageTrainer(stage.prepare(config), config, training_arguments(config))
    trainer.train()
    assert (trainer.state.max_steps, trainer.state.global_step) == (plan.steps, plan.steps)
    assert trainer.args.get_warmup_steps(plan.steps) == plan.warmup_steps


def test_lengths_are_those_of_the_batches(data: Path, tmp_path: Path) -> None:
    config = mllm_config(data, tmp_path / "out")
    stage = find_stage("ffaa", "mllm")
    run, plan = stage.prepare(config), make_plan(stage, config)
    batch = run.collate([run.train[index] for index in range(8)])
    lengths = batch["attention_mask"].sum(1) - batch["pictures"]["pixel_values"].shape[-1] ** 2 // 8**2
    assert plan.texts.longest == int(lengths.max())
    assert plan.texts.mean == pytest.approx(float(lengths.float().mean()))
    assert plan.texts.loss == int((batch["labels"] != -100).sum(1).max())


@pytest.mark.parametrize("stage", ["mllm", "mids"])
def test_a_fake_step_holds_what_a_real_one_holds(stage: str, data: Path, tmp_path: Path) -> None:
    """What autograd saves of a real forward pass, storage by storage, is what lives after a fake one."""
    config = replace(mllm_config(data, tmp_path / "out"), stage=stage, groups=[ParameterGroup(".", 1e-3)])
    found = find_stage("ffaa", stage)
    run = found.prepare(config)
    weights = {p.untyped_storage().data_ptr() for p in (*run.model.parameters(), *run.model.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = run.collate([run.train[index] for index in range(4)])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run.model.train()(**batch).loss
    assert isinstance(found, Outlines)
    outline = found.outline(config)
    texts = outline.texts
    assert texts is not None
    peak = activations(
        outline.model, lambda: outline.step(4, texts), torch.float32, checkpointing=outline.checkpoints, gpu=False
    )[False]
    # The backward pass adds the gradient of the largest layer to what the forward pass keeps.
    assert sum(saved.values()) < peak < 1.35 * sum(saved.values()) and loss.requires_grad


def test_checkpointing_changes_memory_and_no_loss(data: Path, tmp_path: Path) -> None:
    losses = {}
    for way in (False, True):
        config = mllm_config(data, tmp_path / f"out-{way}", gradient_checkpointing=way, max_steps=4)
        trainer = StageTrainer(find_stage("ffaa", "mllm").prepare(config), config, training_arguments(config))
        trainer.train()
        losses[way] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        language_model = trainer.model.model.get_base_model().model.language_model
        assert [layer.gradient_checkpointing for layer in language_model.layers] == [way] * 2
    assert len(losses[True]) == 4 and losses[True] == losses[False]
    plan = make_plan(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "plan"))
    assert plan.activations[True] < 0.7 * plan.activations[False]


def test_mids_has_nothing_to_checkpoint(data: Path, tmp_path: Path) -> None:
    config = replace(mllm_config(data, tmp_path / "out", gradient_checkpointing=True), stage="mids")
    with pytest.raises(InputError, match="gradient_checkpointing is for stage mllm"):
        find_stage("ffaa", "mids").prepare(config)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_where_everything_trains_the_states_are_deepspeed_s_estimates(ranks: int) -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    parameters = 8_000_000
    sizes = Sizes(frozen_bytes=0, frozen=0, trained=parameters, itemsize=2)
    by_name = {strategy.name: model_states(sizes, strategy, ranks) for strategy in STRATEGIES}

    def states(name: str) -> int:
        kept = ("frozen weights", "trained weights", "gradients", "optimiser states")
        return sum(by_name[name].get(part, 0) for part in kept)

    _, second = estimate_zero2_model_states_mem_needs(parameters, ranks, cpu_offload=False)
    assert states("ZeRO-2") == second
    _, third, _ = estimate_zero3_model_states_mem_needs(parameters, 0, ranks, cpu_offload=False)
    assert states("ZeRO-3") == third


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3), ("zero3_offload", 3)])
def test_buckets_are_those_of_the_configurations(name: str, stage: int) -> None:
    config = StageConfig(deepspeed=CONFIGS / "deepspeed" / f"{name}.json")
    assert config.zero_stage() == stage
    values = read_yaml(CONFIGS / "deepspeed" / f"{name}.json")["zero_optimization"]  # JSON is YAML
    assert float(values["reduce_bucket_size"]) == BUCKET
    assert stage == 2 or float(values["stage3_max_live_parameters"]) == MAX_LIVE


def test_more_ranks_hold_less_each_and_frozen_weights_are_spread_by_zero_3_alone() -> None:
    sizes = Sizes(frozen_bytes=1000, frozen=500, trained=64, itemsize=2)
    for strategy in STRATEGIES:
        two, eight = (model_states(sizes, strategy, ranks) for ranks in (2, 8))
        assert on_device(eight) <= on_device(two)
        spread = strategy.stage == 3
        assert eight["frozen weights"] == (0 if strategy.offload else 125 if spread else 1000)


def test_what_is_dropped_is_counted_once() -> None:
    """A linear layer on 1 MB keeps its input and gives its output; both are gone once the step is."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(512, 512, bias=False), nn.ReLU()).train()

    def step() -> torch.Tensor:
        return model(torch.zeros(512, 512)).sum()

    peak = activations(model, step, torch.float32, checkpointing=False)[False]
    tensor = 512 * 512 * 4
    # Input, ReLU's output (its input is gone); in the backward pass the gradients of these and of the weight.
    assert 3 * tensor <= peak <= 4 * tensor + 8


def test_what_cannot_be_planned_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no data at .*nowhere, and no assume\.samples"):
        planned("tiny/../mini/mllm", model="tiny", data=tmp_path / "nowhere")
    with pytest.raises(InputError, match="no parameter is found by nothing"):
        planned("mistral/mids", groups=[ParameterGroup(".", 1.0), ParameterGroup("nothing", 1.0)])
    with pytest.raises(InputError, match="stage projector is too small to be planned"):
        planned("mini/projector")
    with pytest.raises(InputError, match="longest_text is less"):
        Assumed(mean_text=700)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "0")
    assert planned("mistral/mids", data=tmp_path / "nowhere").steps_per_epoch == 157


def test_the_door_plans_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(CONFIGS / "ffaa/mistral/mids.yaml")
    output = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["train.py", "--config", config, "--dry_run", "--output", str(output), "--assume.ranks", "4"]
    )
    assert door.main() == 0
    said = capsys.readouterr().out
    assert "53,972,484" in said and "4 ranks x 24 a batch" in said
    assert not output.exists()
