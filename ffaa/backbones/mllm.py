"""Multimodal language models: assembled from a vision tower and a language model, or any image-text model of the hub.

An assembled model is a plain ``transformers.LlavaForConditionalGeneration`` (tower, two-layer MLP projector, language
model), so that it saves, loads and generates as any other. What is trained of it (LoRA adapters on the language model
and the projector) lives in ``adapter.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from ffaa.assets.published import needs_conversion
from ffaa.backbones.byte_tokenizer import byte_tokenizer
from ffaa.backbones.quantized import check_quantization, quantization
from ffaa.backbones.templates import (
    IMAGE_TOKEN,
    OWN,
    TEMPLATES,
    Template,
    chat_template,
    check_template,
    control_tokens,
    own_template,
)
from ffaa.backbones.vision import hidden_states, load_vision_tower, resolve_source
from ffaa.types import InputError

CLIP_MEAN_COLOUR = (122, 116, 104)


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (arXiv 2106.09685) on the linear layers of the language model."""

    r: int = 16
    """Rank of the update."""
    alpha: int = 32
    """The update is scaled by alpha / r."""
    dropout: float = 0.05
    """Dropout on the adapters' input while training."""


@dataclass(frozen=True)
class Opening:
    """The first place at which a model's answers decide, where its training made one."""

    before: str
    """What stands before it on its line."""
    real: str
    """How answers go on that say real."""
    fake: str
    """How answers go on that say fake."""


@dataclass(frozen=True)
class MllmConfig:
    """What a multimodal language model is made of."""

    base: str | None = None
    """Hub id or folder of a whole image-text model; null: assembled from ``vision`` and ``language``."""
    vision: str | dict[str, Any] = "clip_vit_b16"
    """Asset name, hub id or folder of a CLIP vision tower, or a mapping of CLIPVisionConfig (random weights)."""
    language: str | dict[str, Any] = "smollm2_135m"
    """Asset name, hub id or folder of a causal language model, or a mapping of LlamaConfig (random weights)."""
    image_size: int = 160
    """Side in pixels of the square picture that the vision tower reads."""
    image_aspect: Literal["stretch", "pad"] = "stretch"
    """How a picture becomes square: stretched, or padded with CLIP's mean colour (as LLaVA-1.5)."""
    vision_feature_layer: int | list[int] = field(default_factory=lambda: [4, 6, 8, 11])
    """Hidden state(s) of the tower whose patch tokens feed the projector, side by side."""
    template: str = "chatml"
    """Layout of the conversation: chatml, vicuna_v1, or own, the chat template that the base brings."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    """Adapters that stage 1 trains."""
    opening: Opening | None = None
    """Where its answers first decide; null where they open freely."""


@dataclass(frozen=True)
class Mllm:
    """A model with the processor and the conversation layout that belong to it."""

    model: PreTrainedModel
    processor: ProcessorMixin
    template: Template
    end_token_id: int
    config: MllmConfig

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processor.tokenizer

    @property
    def answer_end(self) -> str:
        """The text of the token that ends an answer, appended to answers in training."""
        return self.template.answer_end

    @property
    def one_view(self) -> bool:
        """Whether it is of the LLaVA layout: a picture is one square view, of as many tokens as any other."""
        return isinstance(self.model, LlavaForConditionalGeneration)

    @property
    def image_token_id(self) -> int:
        return int(self.model.config.image_token_id)

    @property
    def image_tokens(self) -> int:
        """How many tokens one picture takes (models of the LLaVA layout)."""
        return int(self.model.config.image_seq_length)

    def prompt(self, question: str) -> str:
        """One turn up to where the answer begins, with the picture's placeholder once.

        Raises:
            InputError: the question holds a token with a meaning of its own, such as ``<image>``.
        """
        for token in control_tokens(self.tokenizer):
            if token in question:
                raise InputError(f"the question may not contain {token!r}, which is a control token of the model")
        return self.template.render(question)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt, its ``IMAGE_TOKEN`` repeated once per image token (LLaVA layout)."""
        expanded = prompt.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.image_tokens)
        return list(self.tokenizer(expanded)["input_ids"])

    def pixel_values(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Normalised pictures, (n, 3, image_size, image_size) float32 on the CPU."""
        squares = list(images)
        if self.config.image_aspect == "pad":
            # Resized by Pillow, as the original LLaVA does; the processor's own backend differs by a grey level.
            side = (self.config.image_size, self.config.image_size)
            squares = [pad_to_square(image).resize(side, Image.Resampling.BICUBIC) for image in images]
        values: torch.Tensor = self.processor.image_processor(images=squares, return_tensors="pt")["pixel_values"]
        return values


def pad_to_square(image: Image.Image, colour: tuple[int, int, int] = CLIP_MEAN_COLOUR) -> Image.Image:
    """The RGB picture centred on a square of its longer side, as LLaVA-1.5 pads."""
    if image.width == image.height:
        return image
    side = max(image.size)
    square = Image.new(image.mode, (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def build_mllm(
    config: MllmConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
    quantize: str | None = None,
) -> Mllm:
    """The model of a configuration, in eval mode, with an untrained projector where it is assembled.

    ``seed`` fixes the projector and, for towers given as mappings, all weights; the global generator is left as it was.
    ``quantize`` (``4bit``, ``8bit``) packs the language model of a ``base``, which then lies on ``device`` if that is a
    GPU by its number, else on the current one.

    Raises:
        InputError: a template that is unknown or cannot be used, a source that is neither an asset, a folder nor to be
            had from the hub, or a model that cannot be quantised here.
    """
    check_quantization(quantize, whole=config.base is not None)
    check_template(config.template, whole=config.base is not None)
    model: PreTrainedModel
    processor: ProcessorMixin
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.base:
            model, processor = _load_whole(config, dtype, quantize, torch.device(device))
        else:
            model, processor = _assemble(config, dtype, seed)
    template = own_template(processor) if config.template == OWN else TEMPLATES[config.template]
    tokenizer = processor.tokenizer
    end_token_id = tokenizer.convert_tokens_to_ids(template.answer_end)
    if end_token_id is None or end_token_id == tokenizer.unk_token_id:
        raise InputError(
            f"template {config.template!r} ends answers by {template.answer_end!r}, unknown to the tokenizer"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = template.answer_end
    # What a base's own generation_config.json asks for (sampling, penalties) must not change the answers.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end_token_id, pad_token_id=tokenizer.pad_token_id
    )
    placed = model if quantize else model.to(device)  # packed weights lie where they were packed
    return Mllm(placed.eval(), processor, template, int(end_token_id), config)


def patch_states(model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) -> (N, patches, C): what the projector of a LLaVA layout is given, layers side by side."""
    chosen = model.config.vision_feature_layer
    layers = [chosen] if isinstance(chosen, int) else chosen
    first = 1 if model.config.vision_feature_select_strategy == "default" else 0  # "full" keeps the class token
    states = hidden_states(model.model.vision_tower, pixel_values, layers)
    return torch.cat([state[:, first:] for state in states], dim=-1)


def with_dtype(mllm: Mllm, dtype: torch.dtype) -> Mllm:
    """The same model with its weights cast."""
    return replace(mllm, model=mllm.model.to(dtype))


def _load_whole(
    config: MllmConfig, dtype: torch.dtype, quantize: str | None, device: torch.device
) -> tuple[PreTrainedModel, ProcessorMixin]:
    source = resolve_source(str(config.base))
    if how := needs_conversion(source):
        raise InputError(f"the image-text model {source!r} is published in a layout of its own: {how}")
    packed: dict[str, Any] = {}
    if quantize:
        packed = {
            "quantization_config": quantization(quantize, dtype),
            "device_map": {"": torch.cuda.current_device() if device.index is None else device.index},
        }
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **packed)
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the image-text model {config.base!r}: {_first_line(error)}") from error
    if "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        raise InputError(f"{config.base} is a {model.config.model_type}, which reads pictures in a way of its own")
    return model, processor


def _assemble(
    config: MllmConfig, dtype: torch.dtype, seed: int
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Tower + fresh projector + language model, put together on the meta device: nothing is initialised twice."""
    vision = load_vision_tower(config.vision, config.image_size, seed)
    layers, depth = config.vision_feature_layer, int(vision.config.num_hidden_layers)
    chosen = [layers] if isinstance(layers, int) else layers
    if not chosen or any(not -depth - 1 <= layer <= depth for layer in chosen):
        raise InputError(f"vision_feature_layer is {layers}; the tower has layers 0 to {depth}, or from the end -1 on")
    language, tokenizer = _load_language(config.language)
    image_token_id = _add_image_token(language, tokenizer)
    patch_size = int(vision.config.patch_size)
    llava_config = LlavaConfig(
        vision_config=vision.config,
        text_config=language.config,
        image_token_index=image_token_id,
        image_seq_length=(config.image_size // patch_size) ** 2,
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy="default",
    )
    projector = LlavaMultiModalProjector(llava_config)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(llava_config)
    model.model.vision_tower = vision
    model.model.multi_modal_projector = projector
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    model.tie_weights()
    return model.to(dtype), _processor(config, tokenizer, patch_size)


def _processor(config: MllmConfig, tokenizer: PreTrainedTokenizerBase, patch_size: int) -> LlavaProcessor:
    """CLIP's normalisation of the whole picture; faces are cropped before, so nothing is cut off here."""
    side = {"height": config.image_size, "width": config.image_size}
    image_processor = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(TEMPLATES[config.template]),
    )


def _load_language(source: str | dict[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal language model in fp32, and its tokenizer (byte-level for random weights)."""
    if isinstance(source, dict):
        tokenizer = byte_tokenizer()
        special = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        try:
            return AutoModelForCausalLM.from_config(LlamaConfig(**{**special, **source})), tokenizer
        except (ValueError, TypeError, RuntimeError, StrictDataclassError) as error:
            raise InputError(f"no language model is made of {source}: {_first_line(error)}") from error
    try:
        model = AutoModelForCausalLM.from_pretrained(resolve_source(source), dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the language model {source!r}: {_first_line(error)}") from error
    return model, load_tokenizer(source)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model, or of a whole image-text model; raises InputError when it cannot be had."""
    try:
        return AutoTokenizer.from_pretrained(resolve_source(source))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the tokenizer of {source!r}: {_first_line(error)}") from error


def _add_image_token(language: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of ``<image>``; a vocabulary without it grows by one row, the mean of the others.

    The row is never read (the picture's features take its place) and, being the mean, never the likeliest token.
    """
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    old_size = language.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > old_size:
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (language.get_input_embeddings(), language.get_output_embeddings()):
                layer.weight[old_size:] = layer.weight[:old_size].mean(dim=0)
    return int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
