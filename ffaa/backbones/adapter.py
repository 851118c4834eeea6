"""What stage 1 trains of a multimodal language model: LoRA on its language model, and the whole projector.

Saved in peft's format (``adapter_config.json`` + ``adapter_model.safetensors``), so that peft alone reads it too; read
back strictly, where peft only warns.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ffaa.backbones.mllm import Mllm, MllmConfig, build_mllm, with_dtype
from ffaa.backbones.parts import parts_of
from ffaa.runtime import atomic_write_text
from ffaa.types import InputError

# peft 0.21 asks transformers 5 for an attribute by its old name, at every wrap; nothing a user could act on.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

LORA_LAYERS = r"\.(q|k|v|o|qkv|gate|up|gate_up|down)_proj"
"""Linear layers that are adapted; Phi-3 has queries, keys and values in one, and gate and up in one."""
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
NAMED_IN_ERRORS = 3


def attach_lora(mllm: Mllm, config: MllmConfig, *, seed: int = 0) -> PeftModel:
    """The model with fresh LoRA adapters and a trainable copy of the projector; all else is frozen.

    ``mllm.model`` is changed in place (peft wraps its layers). ``seed`` fixes the adapters' initial weights.
    """
    return with_lora(mllm.model, config, seed=seed)


def with_lora(model: PreTrainedModel, config: MllmConfig, *, seed: int = 0) -> PeftModel:
    """As ``attach_lora`` on a bare model, which may be on the meta device.

    Raises:
        InputError: a model of which it is not known what its language model and its projector are.
    """
    settings = LoraConfig(
        r=config.lora.r, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout, **_adapted(model)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, settings)
    if not isinstance(wrapped, PeftModel):
        raise TypeError(f"peft returned a {type(wrapped).__name__}")
    return wrapped


def _adapted(model: PreTrainedModel) -> dict[str, Any]:
    """What of a model learns, for peft: adapters on its language model alone, the projector whole."""
    parts = parts_of(model)
    return {
        "bias": "none",
        "target_modules": rf".*{parts.language}.*{LORA_LAYERS}",
        "modules_to_save": [parts.projector],
    }


def save_adapter(model: PeftModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the trained tensors to ``folder``. Same weights, same bytes; no path of the machine is named."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model, save_embedding_layers=False).items())
    }
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS_FILE)
    settings = model.peft_config["default"].to_dict()
    settings.update(base_model_name_or_path=None, inference_mode=True)
    atomic_write_text(folder / CONFIG_FILE, json.dumps(settings, indent=2, sort_keys=True, default=_plain) + "\n")


def load_mllm(
    config: MllmConfig,
    checkpoint: Path | None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
    quantize: str | None = None,
) -> Mllm:
    """The trained model, adapters merged, in eval mode; ``checkpoint`` None: as ``build_mllm`` makes it.

    A checkpoint of published weights holds the whole model, which is loaded as it is. Of adapters, rank and scale are
    the checkpoint's own. An assembled model is merged in fp32 and cast afterwards; a whole base is merged in ``dtype``,
    since it may fit in memory only so. With ``quantize`` (``4bit``, ``8bit``) the language model's frozen weights are
    packed; adapters then stay beside them, for merged they would be rounded too.

    Raises:
        InputError: no adapter there, or its tensors are not exactly the expected ones (names and shapes); or the model
            cannot be quantised here.
    """
    if checkpoint is None:
        return build_mllm(config, dtype=dtype, device=device, seed=seed, quantize=quantize)
    folder = checkpoint / "mllm"
    if holds_whole_model(folder):
        itself = replace(config, base=str(folder))
        whole = build_mllm(itself, dtype=dtype, device=device, seed=seed, quantize=quantize)
        whole.model.requires_grad_(False)
        return replace(whole, config=config)
    settings, tensors = _read_adapter(folder)
    at_first = dtype if config.base else torch.float32
    mllm = build_mllm(config, dtype=at_first, device=device if quantize else "cpu", seed=seed, quantize=quantize)
    peft_model = get_peft_model(mllm.model, LoraConfig(**settings, **_adapted(mllm.model), inference_mode=True))
    expected = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    check_tensors(expected, tensors, folder / WEIGHTS_FILE)
    set_peft_model_state_dict(peft_model, tensors)
    if quantize:
        mllm.model.requires_grad_(False)
        mllm.model.eval()
        return mllm
    merged = peft_model.merge_and_unload()
    if merged is not mllm.model:
        raise TypeError("peft unloaded into another model than it was given")
    mllm.model.requires_grad_(False)
    mllm.model.to(device).eval()
    return with_dtype(mllm, dtype)


def holds_whole_model(folder: Path) -> bool:
    """Whether the part of a checkpoint is a model as transformers saves it, and no adapter."""
    return (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file()


def restore_adapter(model: PeftModel, folder: Path) -> None:
    """Put a saved adapter and projector into a model with fresh ones, to train on.

    Raises:
        InputError: no adapter in ``folder``, its tensors are not exactly the model's, or they were trained at another
            scale.
    """
    settings, tensors = _read_adapter(folder)
    own = model.peft_config["default"]
    for name in ("r", "lora_alpha", "use_rslora"):  # of which the last two no shape of a tensor tells
        if settings[name] != getattr(own, name):
            raise InputError(f"the adapter in {folder} has {name} = {settings[name]}, not {getattr(own, name)}")
    check_tensors(get_peft_model_state_dict(model, save_embedding_layers=False), tensors, folder / WEIGHTS_FILE)
    set_peft_model_state_dict(model, tensors)


def check_numbers(found: Mapping[str, torch.Tensor], source: Path | str) -> None:
    """Whether all tensors hold finite floating point numbers: others load, and then give answers without meaning.

    Raises:
        InputError: naming the first few that do not.
    """
    # As float32: for eight-bit numbers torch has no test of its own.
    wrong = [n for n, one in sorted(found.items()) if not (one.is_floating_point() and one.float().isfinite().all())]
    if wrong:
        more = ", ..." if len(wrong) > NAMED_IN_ERRORS else ""
        raise InputError(f"{source} holds tensors of no finite numbers: {', '.join(wrong[:NAMED_IN_ERRORS])}{more}")


def check_tensors(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], source: Path | str) -> None:
    """Whether ``found`` has exactly the names and shapes of ``expected``, and numbers in them.

    Raises:
        InputError: naming the first few missing, unexpected or misshapen tensors, or those without finite numbers.
    """
    check_shapes(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        {name: tuple(tensor.shape) for name, tensor in found.items()},
        source,
    )
    check_numbers(found, source)


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: Path | str
) -> None:
    """Whether two sets of tensors have the same names and shapes.

    Raises:
        InputError: naming the first few missing, unexpected or misshapen tensors.
    """
    misshapen = [
        f"{name} is {found[name]}, wanted {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "misshapen": misshapen,
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:NAMED_IN_ERRORS])}{', ...' if len(names) > NAMED_IN_ERRORS else ''})"
        for kind, names in problems.items()
        if names
    ]
    if parts:
        raise InputError(f"{source} does not fit the model: {'; '.join(parts)}")


def _read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Rank, scale and dropout as ``LoraConfig`` takes them, and the tensors."""
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise InputError(f"the checkpoint lacks {path}")
    try:
        values = json.loads(config_path.read_text(encoding="utf-8"))
        dropout = _number(values, "lora_dropout", float, 0)
        if not dropout < 1:
            raise ValueError(f"lora_dropout is {dropout}, wanted below 1")
        settings = {
            "r": _number(values, "r", int, 1),
            "lora_alpha": _number(values, "lora_alpha", int, 0),
            "lora_dropout": dropout,
            "use_rslora": values.get("use_rslora", False),
        }
        return settings, load_file(weights_path)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"cannot read the adapter in {folder}: {error}") from error


def _number(values: Mapping[str, Any], key: str, kind: type[int] | type[float], least: int) -> Any:
    """``values[key]``, checked, for peft reads ``"16"`` and ``0`` and fails later."""
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not value >= least:
        raise ValueError(f"{key} is {value!r}")
    return value


def _plain(value: Any) -> Any:
    """JSON form of what peft's settings hold beside plain values."""
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")
