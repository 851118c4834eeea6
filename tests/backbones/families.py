"""Tiny models of random weights in layouts that differ in processor, placeholder and tiling of pictures.

Saved as folders of the hub's kind, so that they are loaded by the code that loads the large ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from ffaa.backbones.byte_tokenizer import TURN_END_TOKEN, byte_tokenizer
from ffaa.backbones.mllm import MllmConfig

SIDE, PATCH = 32, 8
VISION = {"hidden_size": 32, "intermediate_size": 64, "patch_size": PATCH, "initializer_range": 0.3}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}


def _tokenizer(*more: str, **named: str) -> PreTrainedTokenizerBase:
    """``named`` are tokens that a processor knows its tokenizer's by."""
    tokenizer = byte_tokenizer()
    if named:
        tokenizer.add_special_tokens({"extra_special_tokens": list(named.values())}, replace_extra_special_tokens=False)
        tokenizer._set_model_specific_special_tokens(special_tokens=named)
    tokenizer.add_special_tokens({"extra_special_tokens": list(more)}, replace_extra_special_tokens=False)
    tokenizer.eos_token = TURN_END_TOKEN
    return tokenizer


def _layout(picture: str, between: str = "") -> str:
    """``between`` stands in front of an answer without being part of it."""
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' %}" + between + "{% endif %}{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}" + picture + "{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def llava_next() -> tuple[PreTrainedModel, ProcessorMixin]:
    """LLaVA-NeXT: a picture as a view of the whole and as many tiles as its shape asks for."""
    tokenizer = _tokenizer()
    grids = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=SIDE, num_hidden_layers=3, num_attention_heads=2),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
    )
    pictures = LlavaNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grids
    )
    processor = LlavaNextProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_layout("<image>\n"),
    )
    return LlavaNextForConditionalGeneration(config), processor


def qwen2_5_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2.5-VL: a picture at its own size, positions in three axes, a placeholder between two marks."""
    tokenizer = _tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    )
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    vision = {"depth": 2, "num_heads": 2, "out_hidden_size": 48, "window_size": 32, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, **special, **TEXT},
        vision_config={**VISION, **vision},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH, min_pixels=SIDE**2, max_pixels=4 * SIDE**2),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=PATCH),
        chat_template=_layout("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def idefics3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Idefics3 (and SmolVLM): rows and columns of tiles, each between tokens that name its place."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = _tokenizer("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *places)
    config = Idefics3Config(
        text_config=LlamaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **TEXT).to_dict(),
        vision_config={**VISION, "image_size": SIDE, "num_hidden_layers": 2, "num_attention_heads": 2},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    pictures = Idefics3ImageProcessor(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    processor = Idefics3Processor(
        image_processor=pictures, tokenizer=tokenizer, image_seq_len=4, chat_template=_layout("<image>", between=" ")
    )
    return Idefics3ForConditionalGeneration(config), processor


def gemma3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Gemma 3: one view; the tokens of a picture see one another, and its placeholder is another token than theirs."""
    tokenizer = _tokenizer(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    text = {
        "vocab_size": len(tokenizer),
        "head_dim": 12,
        "sliding_window": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **TEXT,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config={**VISION, "image_size": SIDE, "num_hidden_layers": 2, "num_attention_heads": 2},
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        initializer_range=VISION["initializer_range"],
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_layout("<start_of_image>"),
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero, with which it is blind
    return model, processor


def internvl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """InternVL: tiles of a picture and a view of the whole, all side by side between two marks."""
    tokenizer = _tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        vision_config={
            **VISION,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=4),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=_layout("<IMG_CONTEXT>\n"),
    )
    return InternVLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen3-VL: as Qwen2.5-VL, with features of lower layers of its tower added within the language model."""
    tokenizer = _tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    )
    special = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    vision = {"depth": 2, "num_heads": 2, "out_hidden_size": 48, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config={"vocab_size": len(tokenizer), "head_dim": 12, "rope_parameters": rope, **special, **TEXT},
        vision_config={**VISION, **vision, "num_position_embeddings": 64},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH, min_pixels=SIDE**2, max_pixels=4 * SIDE**2),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(patch_size=PATCH),
        chat_template=_layout("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen3VLForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "llava_next": llava_next,
    "qwen2_5_vl": qwen2_5_vl,
    "idefics3": idefics3,
    "gemma3": gemma3,
    "internvl": internvl,
    "qwen3_vl": qwen3_vl,
}
"""Those that are loaded whole; one more is the assembled LLaVA."""


def saved(family: str, folder: Path) -> MllmConfig:
    """The configuration of a family's tiny model, which it saves in ``folder``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return MllmConfig(base=str(folder), template="own")
