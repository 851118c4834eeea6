"""What models are made of, without their weights: for plans and costs, on the meta device.

The sizes of published models are in ``configs/shapes.yaml``; of anything else only its ``config.json`` is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
)

from ffaa.backbones.byte_tokenizer import byte_tokenizer
from ffaa.backbones.mllm import MllmConfig, load_tokenizer
from ffaa.backbones.templates import IMAGE_TOKEN
from ffaa.backbones.vision import Source, resolve_source
from ffaa.config import CONFIGS, read_yaml
from ffaa.types import InputError

SHAPES_FILE = CONFIGS / "shapes.yaml"


def shape_of(source: Source, part: Literal["vision", "language", "text"]) -> dict[str, Any]:
    """Configuration values of a tower: a mapping as it is, a published one from the table, else its ``config.json``.

    Raises:
        InputError: not in the table, and no ``config.json`` to be had.
    """
    if isinstance(source, Mapping):
        return dict(source)
    known = read_yaml(SHAPES_FILE).get(source, {})
    if part in known:
        return dict(known[part])
    read = CLIPVisionConfig if part == "vision" else AutoConfig
    values: dict[str, Any] = _config(source, read).to_dict()
    return values


def llava_config(config: MllmConfig) -> LlavaConfig:
    """The configuration of the model that ``build_mllm`` would load or assemble.

    Raises:
        InputError: a source of unknown shape, or a base of another layout than LLaVA's.
    """
    layer = config.vision_feature_layer
    if config.base is None:
        vision = {**shape_of(config.vision, "vision"), "image_size": config.image_size}
        return _joined(vision, _grown(config.language), layer)
    if config.base in read_yaml(SHAPES_FILE):
        return _joined(shape_of(config.base, "vision"), shape_of(config.base, "language"), layer)
    found = _config(config.base, AutoConfig)
    if not isinstance(found, LlavaConfig):
        raise InputError(
            f"{config.base} is a {found.model_type}: it can be trained, but only models of type llava are planned and "
            "costed without their weights"
        )
    return found


def meta_llava(config: LlavaConfig) -> LlavaForConditionalGeneration:
    """A model without weights, on the meta device, in float32 and eval mode."""
    with torch.device("meta"):
        return LlavaForConditionalGeneration(config).float().eval()


def _joined(vision: Mapping[str, Any], language: Mapping[str, Any], layer: int | list[int]) -> LlavaConfig:
    settings = dict(language)
    try:
        vision_config = CLIPVisionConfig(**vision)
        text_config = AutoConfig.for_model(settings.pop("model_type", "llama"), **settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"no model is made of {vision} and {language}: {str(error).splitlines()[0]}") from error
    return LlavaConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_seq_length=(vision_config.image_size // vision_config.patch_size) ** 2,
        vision_feature_layer=layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=text_config.tie_word_embeddings,
    )


def _grown(source: str | dict[str, Any]) -> dict[str, Any]:
    """The shape of a language model whose vocabulary got the picture's token, as ``build_mllm`` gives it one."""
    tokenizer = byte_tokenizer() if isinstance(source, dict) else load_tokenizer(source)
    shape = shape_of(source, "language")
    rows = shape.get("vocab_size", len(tokenizer))
    extra = IMAGE_TOKEN not in tokenizer.get_vocab()
    return {**shape, "vocab_size": max(rows, len(tokenizer) + extra)}


def _config(source: str, kind: Any) -> PretrainedConfig:
    try:
        found: PretrainedConfig = kind.from_pretrained(resolve_source(source))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the shape of {source!r} is neither in {SHAPES_FILE.name} nor to be read: {str(error).splitlines()[0]}"
        ) from error
    return found
