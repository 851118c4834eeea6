"""Quantisation cannot run here: what is refused, what is asked of bitsandbytes, and which layers that means."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.quantizers.quantizers_utils import should_convert_module

from ffaa.backbones.adapter import with_lora
from ffaa.backbones.generation import GenerationSettings
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.backbones.parts import parts_of
from ffaa.backbones.quantized import QUANTIZED, check_quantization, packed_bytes, quantization
from ffaa.backbones.shapes import llava_config, meta_llava
from ffaa.config import CONFIGS, load_yaml, parse
from ffaa.evaluation.benchmarks import EvalConfig
from ffaa.methods import find_stage, load_method
from ffaa.methods.checkpoint import writer_identity
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import Compute
from ffaa.types import InputError
from tests.backbones.families import FAMILIES, saved


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
@pytest.mark.parametrize("name", ["mistral", "phi", "tiny"])
def test_the_language_model_s_layers_alone_are_packed(name: str, kind: str) -> None:
    config = load_yaml(CONFIGS / "ffaa" / name / "model.yaml", FfaaConfig).mllm
    model = meta_llava(llava_config(config))
    skipped = quantization(kind, torch.bfloat16).llm_int8_skip_modules
    linear = [one for one, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    packed = {one for one in linear if should_convert_module(one, skipped)}
    assert packed == {one for one in linear if "language_model.layers" in one}
    # The plan counts as packed what is packed.
    adapted = with_lora(model, config)
    counted = {
        parameter_name.removeprefix("base_model.model.").removesuffix(".base_layer.weight")
        for parameter_name, parameter in adapted.named_parameters()
        if re.search(QUANTIZED, parameter_name) and not parameter.requires_grad
    }
    assert counted == packed


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_of_any_layout_the_language_model_s_layers_alone_are_packed(family: str, kind: str) -> None:
    model, _ = FAMILIES[family]()
    skipped = quantization(kind, torch.bfloat16).llm_int8_skip_modules
    linear = [one for one, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    packed = {one for one in linear if should_convert_module(one, skipped)}
    assert packed == {one for one in linear if f"{parts_of(model).language}.layers" in one}
    assert packed == {one for one in linear if re.search(QUANTIZED, f"{one}.weight")}


def test_a_packed_model_is_answered_with_by_flag_and_refused_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = saved("llava_next", tmp_path / "base").base
    (tmp_path / "model.yaml").write_text(f"mllm: {{base: {base}, template: own}}")
    monkeypatch.setattr("ffaa.backbones.quantized.is_bitsandbytes_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="needs a GPU"):
        load_method("llava", model_dir=tmp_path, quantize="4bit")
    with pytest.raises(InputError, match="null, 4bit or 8bit, not '3bit'"):
        load_method("llava", model_dir=tmp_path, quantize="3bit")
    with pytest.raises(InputError, match="for a base of the hub"):
        load_method("llava", model_dir=CONFIGS / "llava/tiny", quantize="8bit")
    monkeypatch.setattr("ffaa.methods.checkpoint.check_quantization", lambda *_, **__: None)
    with pytest.raises(InputError, match="for a GPU, and the device is cpu"):
        load_method("llava", model_dir=tmp_path, quantize="4bit", device="cpu")
    asked: list[object] = []
    monkeypatch.setattr("ffaa.methods.checkpoint.load_mllm", lambda *_, **told: asked.append(told["quantize"]))
    monkeypatch.setattr("ffaa.methods.checkpoint.pick_device", lambda _: torch.device("cuda"))
    with pytest.raises(AttributeError):  # of the model that the stand-in does not give
        load_method("llava", model_dir=tmp_path, quantize="8bit", dtype="float32")
    assert asked == ["8bit"]
    with pytest.raises(SystemExit):
        parse(EvalConfig, ["--quantize", "3bit"], prog="eval.py", description="")
    assert "4bit" in capsys.readouterr().err
    assert parse(EvalConfig, ["--quantize", "4bit"], prog="eval.py", description="").quantize == "4bit"


def test_what_a_packed_model_writes_is_kept_apart() -> None:
    config, settings = MllmConfig(base="a/b"), GenerationSettings()
    whole, packed = (
        writer_identity(config, None, settings, Compute("cpu", "float32", quantize=kind)) for kind in (None, "4bit")
    )
    assert packed == {**whole, "quantize": "4bit"} and "quantize" not in whole


def test_four_bits_are_nf4_with_quantised_scales() -> None:
    config = quantization("4bit", torch.bfloat16)
    assert config.load_in_4bit and config.bnb_4bit_quant_type == "nf4" and config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype is torch.bfloat16
    assert quantization("8bit", torch.bfloat16).load_in_8bit
    assert 0.5 < packed_bytes("4bit")[QUANTIZED] < 0.52 and packed_bytes(None) == {}


def test_what_cannot_be_quantised_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffaa.backbones.quantized.is_bitsandbytes_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="needs a GPU"):
        check_quantization("4bit", whole=True)
    with pytest.raises(InputError, match="cannot be spread over ranks"):
        check_quantization("4bit", whole=True, deepspeed_stage=3)
    with pytest.raises(InputError, match="for a base of the hub"):
        build_mllm(load_yaml(CONFIGS / "ffaa/tiny/model.yaml", FfaaConfig).mllm, quantize="4bit")
    with pytest.raises(InputError, match="null, 4bit or 8bit, not '3bit'"):
        check_quantization("3bit", whole=True)
    check_quantization(None, whole=False, deepspeed_stage=3)


def test_without_bitsandbytes_the_stage_says_so_before_it_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ffaa.backbones.quantized.is_bitsandbytes_available", lambda: False)
    config = load_yaml(CONFIGS / "ffaa/mistral/mllm_qlora.yaml", StageConfig)
    with pytest.raises(InputError, match="needs bitsandbytes"):
        find_stage("ffaa", "mllm").prepare(config)
    zero3 = tmp_path / "zero3.json"
    zero3.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(InputError, match="cannot be spread over ranks"):
        find_stage("ffaa", "mllm").prepare(replace(config, deepspeed=zero3))
    zero3.write_text("{}")
    with pytest.raises(InputError, match=r"without a number at zero_optimization\.stage"):
        find_stage("ffaa", "mllm").prepare(replace(config, deepspeed=zero3))
