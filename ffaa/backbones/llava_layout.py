"""Names and settings of LLaVA checkpoints: those of the original LLaVA code (arXiv 2310.03744), and transformers'.

Three sets of tensor names are known: ``published`` (``model.mm_projector.0.weight``), ``saved``, which transformers has
always written and every server reads (``multi_modal_projector.linear_1.weight``), and ``held``, those in memory since
transformers 5 (``model.multi_modal_projector.linear_1.weight``). All maps here lead to ``saved``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPVisionConfig, LlavaConfig

from ffaa.backbones.shapes import meta_llava
from ffaa.config import CONFIGS, read_json, read_yaml
from ffaa.types import InputError

PUBLISHED_TYPES = {"llava_mistral": "mistral", "llava_llama": "llama", "llava": "llama"}
"""``model_type`` of the original code -> that of its language model in transformers."""

_TO_SAVED = (
    (r"model\.mm_projector\.0\.(weight|bias)", r"multi_modal_projector.linear_1.\1"),
    (r"model\.mm_projector\.2\.(weight|bias)", r"multi_modal_projector.linear_2.\1"),
    (r"model\.vision_tower\.vision_tower\.vision_model\.(.+)", r"vision_tower.vision_model.\1"),
    (r"model\.((?:embed_tokens|layers|norm)\..+)", r"language_model.model.\1"),
    (r"lm_head\.weight", r"language_model.lm_head.weight"),
)
_HELD_TO_SAVED = (
    (r"model\.language_model\.(.+)", r"language_model.model.\1"),
    (r"model\.vision_tower\.(?:vision_model\.)?(.+)", r"vision_tower.vision_model.\1"),
    (r"model\.(multi_modal_projector\..+)", r"\1"),
    (r"lm_head\.weight", r"language_model.lm_head.weight"),
    (r"vision_tower\.((?:embeddings|encoder|pre_layrnorm|post_layernorm)\..+)", r"vision_tower.vision_model.\1"),
    (r"((?:language_model|vision_tower\.vision_model|multi_modal_projector)\..+)", r"\1"),
)
_CLIP_TO_SAVED = (
    (r"(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm)\..+)", r"vision_tower.vision_model.\1"),
)
_BUFFERS = (
    (r".*\.position_ids", "a buffer: the row numbers 0, 1, ..., which the model makes itself"),
    (r".*\.rotary_emb\.inv_freq", "a buffer: computed from rope_theta"),
)
_DROPPED = (
    *_BUFFERS,
    (r"model\.image_newline", "ends the rows of tiles in anyres mode; one padded view has none"),
)
_CLIP_DROPPED = (
    *_BUFFERS,
    (r"(?:text_model|text_projection|visual_projection)\..*|logit_scale", "CLIP's text half, which LLaVA does not use"),
)

MAPS = {"published": (_TO_SAVED, _DROPPED), "hf": (_HELD_TO_SAVED, _BUFFERS), "clip": (_CLIP_TO_SAVED, _CLIP_DROPPED)}


def saved_name(name: str, layout: str) -> tuple[str | None, str | None]:
    """(name as saved, None), or (None, why it is dropped), or (None, None) for a name that ``layout`` has not."""
    renames, dropped = MAPS[layout]
    for pattern, reason in dropped:
        if re.fullmatch(pattern, name):
            return None, reason
    for pattern, replacement in renames:
        if found := re.fullmatch(pattern, name):
            return found.expand(replacement), None
    return None, None


def layout_of(folder: Path) -> str:
    """``published`` or ``hf``, by the folder's ``config.json``.

    Raises:
        InputError: it is neither; says what it looks like.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no LLaVA model: {looks_like(folder)}")
    values = read_json(folder / "config.json")
    kind = values.get("model_type")
    if kind == "llava" and "text_config" in values:
        return "hf"
    if kind in PUBLISHED_TYPES and "text_config" not in values:
        return "published"
    raise InputError(f"{folder} holds no LLaVA model of a known layout: {looks_like(folder)}")


def looks_like(place: Path) -> str:
    """What a file or folder seems to be, for messages."""
    if not place.exists():
        return "there is no such path"
    names = {place.name} if place.is_file() else {path.name for path in place.iterdir()}
    if "adapter_config.json" in names:
        return "it looks like LoRA adapters, which need their base (--base)"
    if "checkpoint.json" in names:
        return "it looks like a checkpoint of this project"
    if "config.json" in names and place.is_dir():
        kind = read_json(place / "config.json").get("model_type")
        return f"it looks like a model of type {kind!r}"
    if any(name.startswith(("zero_pp_rank", "global_step")) for name in names):
        return "it looks like DeepSpeed's state of a training"
    if names & {"mm_projector.bin", "non_lora_trainables.bin"}:
        return "it looks like a projector alone, without language model and image tower"
    if any(name.endswith(".pth") for name in names):
        return "it looks like weights of MIDS (--mids)"
    return "it holds no config.json, so nothing tells what it is"


def language_config(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Configuration of the language model out of a published ``config.json``."""
    kind = PUBLISHED_TYPES[values["model_type"]]
    known = set(AutoConfig.for_model(kind).to_dict()) | {"rope_theta", "rope_scaling"}
    foreign = {"model_type", "architectures", "dtype", "transformers_version", "_name_or_path", "id2label", "label2id"}
    kept = {key: value for key, value in values.items() if key in known - foreign}
    try:
        return {**AutoConfig.for_model(kind, **kept).to_dict(), "model_type": kind}
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise InputError(f"{folder / 'config.json'} makes no language model: {str(error).splitlines()[0]}") from error


def check_settings(values: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings of the original code that ``LlavaForConditionalGeneration`` has not. Raises InputError."""
    config = folder / "config.json"
    if values.get("mm_projector_type", "linear") != "mlp2x_gelu":
        raise InputError(
            f"{config}: mm_projector_type is {values.get('mm_projector_type', 'linear')!r}; only mlp2x_gelu is known"
        )
    if values.get("mm_use_im_start_end"):
        raise InputError(f"{config}: mm_use_im_start_end puts tokens around the picture, which this project does not")
    if values.get("tune_mm_vision_resampler") or values.get("mm_resampler_type"):
        raise InputError(f"{config}: a resampler between tower and projector is not known")


def vision_config(
    shapes: Mapping[str, tuple[int, ...]], tower: str | None, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Configuration of a CLIP image tower from the shapes of its tensors (named as saved).

    Shapes tell all but the number of heads and the activation: those are of ``given`` (a ``config.json``), else of the
    published tower of this name, else as in all of OpenAI's CLIP (64 channels a head, quick_gelu).

    Raises:
        InputError: no tower in ``shapes``.
    """
    prefix = "vision_tower.vision_model."
    try:
        hidden = shapes[prefix + "embeddings.class_embedding"][0]
        patch = shapes[prefix + "embeddings.patch_embedding.weight"][-1]
        positions = shapes[prefix + "embeddings.position_embedding.weight"][0]
        middle = shapes[prefix + "encoder.layers.0.mlp.fc1.weight"][0]
    except (KeyError, IndexError) as error:
        raise InputError(f"the image tower is incomplete: it lacks {error}") from error
    layers = {found[1] for name in shapes if (found := re.match(re.escape(prefix) + r"encoder\.layers\.(\d+)\.", name))}
    told = dict(given or read_yaml(CONFIGS / "shapes.yaml").get(str(tower), {}).get("vision", {}))
    if told.get("hidden_size", hidden) != hidden:  # a tower of another size goes by this name
        told = {}
    return {
        "hidden_act": told.get("hidden_act", "quick_gelu"),
        "layer_norm_eps": told.get("layer_norm_eps", 1e-5),
        "num_attention_heads": told.get("num_attention_heads", max(1, hidden // 64)),
        "hidden_size": hidden,
        "intermediate_size": middle,
        "num_hidden_layers": len(layers),
        "patch_size": patch,
        "image_size": math.isqrt(positions - 1) * patch,
        "model_type": "clip_vision_model",
    }


def joined_config(
    values: Mapping[str, Any], language: Mapping[str, Any], vision: Mapping[str, Any], image_token_id: int
) -> LlavaConfig:
    """What transformers builds the model from: one view, features of one layer, two-layer projector."""
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    strategy = "full" if values.get("mm_vision_select_feature", "patch") == "cls_patch" else "default"
    settings = dict(language)
    text = AutoConfig.for_model(settings.pop("model_type"), **settings)
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**{k: v for k, v in vision.items() if k != "model_type"}),
        text_config=text,
        image_token_index=image_token_id,
        image_seq_length=patches + (strategy == "full"),
        projector_hidden_act="gelu",
        vision_feature_layer=int(values.get("mm_vision_select_layer", -2)),
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=bool(text.tie_word_embeddings),
        architectures=["LlavaForConditionalGeneration"],
    )


def wanted_shapes(config: LlavaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model of this configuration has, named as saved. Raises InputError for impossible sizes."""
    try:
        model = meta_llava(config)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"no model has these sizes: {str(error).splitlines()[0]}") from error
    shapes = {}
    for name, tensor in model.state_dict().items():
        saved, _ = saved_name(name, "hf")
        if saved is not None and not (config.tie_word_embeddings and saved == "language_model.lm_head.weight"):
            shapes[saved] = tuple(tensor.shape)
    return shapes
