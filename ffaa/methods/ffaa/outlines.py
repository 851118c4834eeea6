"""The stages of FFAA without weights, for ``--dry_run``: what learns, how large it is, what one step does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ffaa import assets
from ffaa.backbones.adapter import with_lora
from ffaa.backbones.byte_tokenizer import byte_tokenizer
from ffaa.backbones.mllm import MllmConfig, load_tokenizer
from ffaa.backbones.quantized import packed_bytes
from ffaa.backbones.shapes import llava_config, meta_llava, shape_of
from ffaa.backbones.templates import IMAGE_TOKEN, TEMPLATES
from ffaa.config import load_yaml, model_folder
from ffaa.methods.base import Outline, Texts
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mids import CLASSES, Mids, MidsConfig, MidsProcessor, build_mids
from ffaa.methods.ffaa.mids_masks import MaskTaughtMids
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import pick_device, pick_dtype

MLLM_PARTS = {
    "vision tower": "vision_tower",
    "projector": "multi_modal_projector",
    "vocabulary": r"embed_tokens|lm_head",
    "language model": ".",
}
MIDS_PARTS = {"vision tower": "image_encoder", "text encoder": "text_encoder", "head": "."}


def mllm_outline(config: StageConfig, answer_model: Any, conversations: Sequence[tuple[str, str]] | None) -> Outline:
    """Stage 1.

    Args:
        config: of the stage.
        answer_model: the class that wraps the adapted model for training.
        conversations: question and answer of each sample; None where the data is not there.
    """
    settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig).mllm
    shape = llava_config(settings)
    model = with_lora(meta_llava(shape).to(pick_dtype(config.dtype, pick_device(config.device))), settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    vision = shape.vision_config

    def step(pictures: int, texts: Texts) -> Tensor:
        base = cast(Any, model.get_base_model())
        pixels = torch.zeros(pictures, 3, vision.image_size, vision.image_size)
        features = torch.cat(list(base.get_image_features(pixel_values=pixels).pooler_output))
        ids = torch.zeros(pictures, shape.image_seq_length + texts.longest, dtype=torch.long)
        embedded = base.get_input_embeddings()(ids)
        where = torch.zeros(*ids.shape, 1, dtype=torch.bool).expand_as(embedded)
        embedded = embedded.masked_scatter(where, features.to(embedded.dtype))
        hidden = base.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        logits = base.lm_head(hidden[:, -texts.loss :].flatten(0, 1)).float()
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    return Outline(
        model=answer_model(model).train(),
        parts=MLLM_PARTS,
        step=step,
        samples=None if conversations is None else len(conversations),
        texts=None if conversations is None else _conversation_texts(settings, conversations),
        image_tokens=int(shape.image_seq_length),
        texts_per_sample=1,
        checkpoints=True,
        packed=packed_bytes(config.options.get("quantize")),
    )


def _conversation_texts(config: MllmConfig, conversations: Sequence[tuple[str, str]]) -> Texts | None:
    """Counted where the tokenizer is on this machine: an assembled model's, or that of a base in a folder."""
    source = config.base or config.language
    if config.base is not None and not Path(config.base).is_dir():
        return None
    tokenizer = byte_tokenizer() if isinstance(source, dict) else load_tokenizer(source)
    template = TEMPLATES[config.template]
    asked = [template.render(question).replace(IMAGE_TOKEN, "") for question, _ in conversations]
    prompts = [len(ids) for ids in tokenizer(asked)["input_ids"]]
    answers = [
        len(ids) + 1
        for ids in tokenizer([answer for _, answer in conversations], add_special_tokens=False)["input_ids"]
    ]
    totals = [sum(pair) for pair in zip(prompts, answers, strict=True)]
    return Texts(sum(totals) / len(totals), max(totals), max(answers))


def mids_outline(config: StageConfig, answers: Sequence[Sequence[str]] | None) -> Outline:
    """Stage 2; ``answers`` are those to each picture, None where the data is not there."""
    settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig).mids
    vision, text = shape_of(settings.vision, "vision"), shape_of(settings.text, "text")
    mids = build_mids(replace(settings, vision=vision, text=text), device="meta")
    mids = mids.cast_frozen(pick_dtype(config.dtype, pick_device(config.device)))
    mask_weight = config.share_option("mask_weight")
    with torch.device("meta"):
        model = MaskTaughtMids(mids, mask_weight, config.seed) if mask_weight else mids
    image_size = settings.image_size
    patch_size = int(cast(Any, mids.image_encoder.config).patch_size)

    def step(pictures: int, texts: Texts) -> Tensor:
        # The mask heads' own loss is left out: one number a patch.
        pixels = torch.zeros(pictures, 3, image_size, image_size)
        length = min(texts.longest, settings.max_text_tokens)
        ids = torch.zeros(pictures, settings.num_answers, length, dtype=torch.long)
        labels = torch.zeros(ids.shape[:2], dtype=torch.long) % CLASSES
        return cast(Tensor, mids(pixels, ids, torch.ones_like(ids), labels).loss)

    return Outline(
        model=model.train(),
        parts=MIDS_PARTS,
        step=step,
        samples=None if answers is None else len(answers),
        texts=None if answers is None else _answer_texts(settings, mids, answers),
        image_tokens=(image_size // patch_size) ** 2 + 1,
        texts_per_sample=settings.num_answers,
        checkpoints=False,
        packed={},
    )


def _answer_texts(config: MidsConfig, mids: Mids, answers: Sequence[Sequence[str]]) -> Texts | None:
    """Counted where the text encoder's tokenizer is on this machine: random weights', an asset's or a folder's."""
    source = config.text
    if isinstance(source, str) and source not in assets.TABLE and not Path(source).is_dir():
        return None
    tokenizer = load_tokenizer(source) if isinstance(source, str) else mids.tokenizer
    ids, mask = MidsProcessor(config, tokenizer).texts(answers)
    return Texts(float(mask.sum(-1).float().mean()), int(ids.shape[-1]), 0)
