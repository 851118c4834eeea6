from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ffaa.backbones.adapter import CONFIG_FILE, WEIGHTS_FILE, attach_lora, check_tensors, load_mllm, save_adapter
from ffaa.backbones.mllm import Mllm, MllmConfig, build_mllm
from ffaa.config import load_yaml
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError

TINY: MllmConfig = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm


def logits(mllm: Mllm, model: torch.nn.Module | None = None) -> torch.Tensor:
    ids = torch.tensor([mllm.prompt_ids(mllm.prompt("Real?"))])
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    with torch.inference_mode():
        result: torch.Tensor = (model or mllm.model)(input_ids=ids, pixel_values=pixels).logits
    return result


@pytest.fixture(scope="module")
def trained() -> tuple[Mllm, PeftModel]:
    """As after training: every trained tensor moved away from where it began."""
    mllm = build_mllm(TINY)
    model = attach_lora(mllm, TINY)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return mllm, model.eval()


@pytest.fixture
def checkpoint(trained: tuple[Mllm, PeftModel], tmp_path: Path) -> Path:
    save_adapter(trained[1], tmp_path / "mllm", dtype=torch.float32)
    return tmp_path


def test_fresh_adapters_change_nothing_and_only_they_and_the_projector_learn() -> None:
    mllm = build_mllm(TINY)
    before = logits(mllm)
    model = attach_lora(mllm, TINY)
    assert torch.equal(logits(mllm, model.eval()), before)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "multi_modal_projector.modules_to_save" in name for name in learning)
    assert not [name for name in learning if "vision_tower" in name]
    layers, linears, projector = 2, 7, 4
    assert len(learning) == layers * linears * 2 + projector


def test_training_moves_nothing_else() -> None:
    mllm = build_mllm(TINY)
    model = attach_lora(mllm, TINY)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ids = torch.tensor([mllm.prompt_ids(mllm.prompt("Real?"))])
    loss = model.train()(input_ids=ids, pixel_values=torch.ones(1, 3, 32, 32), labels=ids).loss
    loss.backward()
    optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


def test_merged_it_answers_as_it_was_trained(trained: tuple[Mllm, PeftModel], checkpoint: Path) -> None:
    mllm, model = trained
    loaded = load_mllm(TINY, checkpoint)
    assert torch.allclose(logits(loaded), logits(mllm, model), atol=2e-3)
    assert not torch.allclose(logits(loaded), logits(build_mllm(TINY)), atol=1e-2)
    assert not [name for name in loaded.model.state_dict() if "lora" in name or "modules_to_save" in name]
    assert not any(p.requires_grad for p in loaded.model.parameters()) and not loaded.model.training


def test_the_folder_is_peft_s_own_format(trained: tuple[Mllm, PeftModel], checkpoint: Path) -> None:
    mllm, model = trained
    plain = PeftModel.from_pretrained(build_mllm(TINY).model, checkpoint / "mllm").eval()
    assert torch.allclose(logits(mllm, plain), logits(mllm, model), atol=1e-4)


def test_files_are_the_same_each_time_and_name_no_place(
    trained: tuple[Mllm, PeftModel], checkpoint: Path, tmp_path: Path
) -> None:
    save_adapter(trained[1], tmp_path / "again", dtype=torch.float32)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (checkpoint / "mllm" / name).read_bytes()
    settings = json.loads((checkpoint / "mllm" / CONFIG_FILE).read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] is None
    assert not [value for value in settings.values() if isinstance(value, str) and value.startswith("/")]
    save_adapter(trained[1], tmp_path / "half")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / WEIGHTS_FILE).values()} == {torch.bfloat16}


def test_rank_and_scale_are_the_checkpoint_s(trained: tuple[Mllm, PeftModel], checkpoint: Path) -> None:
    other = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm
    object.__setattr__(other, "lora", type(other.lora)(r=2, alpha=99))
    assert torch.equal(logits(load_mllm(other, checkpoint)), logits(load_mllm(TINY, checkpoint)))


def test_dtype_is_the_one_asked_for(checkpoint: Path) -> None:
    loaded = load_mllm(TINY, checkpoint, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen"])
def test_tensors_that_do_not_fit_are_named(checkpoint: Path, damage: str) -> None:
    path = checkpoint / "mllm" / WEIGHTS_FILE
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("linear_1.weight"))
    if damage == "missing":
        del tensors[name]
    elif damage == "misshapen":
        tensors[name] = tensors[name][:, :-1].contiguous()
    else:
        name = "stray.weight"
        tensors[name] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"1 {damage} \({re.escape(name)}"):
        load_mllm(TINY, checkpoint)


def test_files_that_cannot_be_read_are_named(checkpoint: Path) -> None:
    weights, settings = checkpoint / "mllm" / WEIGHTS_FILE, checkpoint / "mllm" / CONFIG_FILE
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read the adapter"):
        load_mllm(TINY, checkpoint)
    weights.unlink()
    with pytest.raises(InputError, match=WEIGHTS_FILE):
        load_mllm(TINY, checkpoint)
    settings.write_text("{}", encoding="utf-8")
    weights.write_bytes(b"")
    with pytest.raises(InputError, match="cannot read the adapter"):
        load_mllm(TINY, checkpoint)


@pytest.mark.parametrize("wrong", [{"r": 0}, {"r": "16"}, {"r": True}, {"lora_alpha": None}, {"lora_dropout": "x"}])
def test_settings_that_cannot_be_are_named(checkpoint: Path, wrong: dict[str, object]) -> None:
    settings = checkpoint / "mllm" / CONFIG_FILE
    values = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**values, **wrong}), encoding="utf-8")
    with pytest.raises(InputError, match=f"cannot read the adapter.*{next(iter(wrong))} is"):
        load_mllm(TINY, checkpoint)


@pytest.mark.parametrize("value", [torch.tensor(float("nan")), torch.tensor(float("-inf")), torch.tensor(0)])
def test_tensors_without_finite_numbers_are_named(value: torch.Tensor) -> None:
    good = {"a": torch.zeros(2), "b": torch.zeros(2)}
    check_tensors(good, good, "w")
    with pytest.raises(InputError, match="^w holds tensors of no finite numbers: b$"):
        check_tensors(good, {**good, "b": value.expand(2)}, "w")


def test_only_the_first_few_names_are_said() -> None:
    expected = {f"layer{index}": torch.zeros(1) for index in range(9)}
    with pytest.raises(InputError, match=r"^w does not fit the model: 9 missing \(layer0, layer1, layer2, \.\.\.\)$"):
        check_tensors(expected, {}, "w")
    check_tensors(expected, expected, "w")
