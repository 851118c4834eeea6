from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from ffaa.backbones.generation import TransformersEngine
from ffaa.config import load_yaml
from ffaa.methods import METHODS, load_method
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.llava.method import Llava, LlavaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError, Request

CONFIGS = {"ffaa": FfaaConfig, "llava": LlavaConfig}
MODELS = ("tiny", "mini", "mistral")


def folder(method: str, model: str) -> Path:
    return PROJECT_ROOT / "configs" / method / model


def test_every_row_of_the_table_can_be_loaded() -> None:
    assert all(callable(import_module(module).load) for module in METHODS.values())


def test_an_unknown_method_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match="did you mean llava"):
        load_method("lava", model_dir=folder("llava", "tiny"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", CONFIGS)
def test_every_model_file_reads(method: str, model: str) -> None:
    assert load_yaml(folder(method, model) / "model.yaml", CONFIGS[method]) is not None


@pytest.mark.parametrize("model", MODELS)
def test_llava_is_ffaa_s_language_model(model: str) -> None:
    ours = load_yaml(folder("ffaa", model) / "model.yaml", FfaaConfig)
    alone = load_yaml(folder("llava", model) / "model.yaml", LlavaConfig)
    assert alone == LlavaConfig(ours.mllm, ours.checkpoint, ours.max_new_tokens)


def test_mistral_is_the_published_one() -> None:
    config = load_yaml(folder("ffaa", "mistral") / "model.yaml", FfaaConfig)
    assert (config.mllm.lora.r, config.mllm.lora.alpha, config.mllm.lora.dropout) == (32, 48, 0.05)
    assert (config.mllm.template, config.mllm.image_aspect, config.mllm.image_size) == ("vicuna_v1", "pad", 336)
    assert (config.mids.hidden_dim, config.mids.heads, config.mids.vision_layers) == (768, 8, (-1, -2))
    assert (config.generate_num, config.max_new_tokens) == (3, 512)


def test_tiny_is_loaded_with_nothing_but_its_file(tmp_path: Path) -> None:
    method = load_method("ffaa", model_dir=folder("ffaa", "tiny"), device="cpu", dtype="float32")
    assert method.name == "ffaa" and method.needs_face
    assert {"mllm", "mids", "mids_text"} <= set(method.fingerprint)


def test_options_beat_the_file() -> None:
    method = load_method(
        "ffaa", model_dir=folder("ffaa", "tiny"), device="cpu", generate_num=2, max_new_tokens=5, seed=3
    )
    assert (method.generate_num, method.seed) == (2, 3)  # type: ignore[attr-defined]
    assert method.engine.settings.max_new_tokens == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "number"), [("ffaa", 0), ("ffaa", 4), ("llava", 3)])
def test_a_wrong_number_of_answers(method: str, number: int) -> None:
    with pytest.raises(InputError, match=str(number)):
        load_method(method, model_dir=folder(method, "tiny"), generate_num=number)


def test_a_selector_without_weights_is_refused(tmp_path: Path) -> None:
    values = yaml.safe_load((folder("ffaa", "tiny") / "model.yaml").read_text(encoding="utf-8"))
    values["mids"]["text"] = "minilm_l6"
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match="MIDS is untrained"):
        load_method("ffaa", model_dir=tmp_path, device="cpu")


def test_attention_and_compilation_are_chosen() -> None:
    def load(**options: Any) -> Llava:
        tiny = PROJECT_ROOT / "configs/llava/tiny"
        method = load_method("llava", model_dir=tiny, device="cpu", dtype="float32", max_new_tokens=5, **options)
        assert isinstance(method, Llava)
        return method

    def model(method: Llava) -> Any:
        assert isinstance(method.engine, TransformersEngine)
        return method.engine.mllm.model

    request = Request(Image.new("RGB", (20, 20)), id="a")
    eager = load(attn_implementation="eager")
    assert model(eager).config.text_config._attn_implementation == "eager"
    assert eager.analyze([request])[0].answer.text == load().analyze([request])[0].answer.text
    with pytest.raises(InputError, match="no attention 'flash' for this model: "):
        load(attn_implementation="flash")
    assert model(load()).get_decoder()._compiled_call_impl is None
    assert model(load(compile=True)).get_decoder()._compiled_call_impl is not None
