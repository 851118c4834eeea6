"""CLIP vision towers by asset name, Hugging Face folder or id, or a mapping of configuration values (random)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from ffaa.types import InputError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Source = str | Mapping[str, Any]


def resolve_source(source: str) -> str:
    """An asset's name becomes its folder in the cache (fetched when needed); anything else is a folder or a hub id.

    A published model in a layout that only its authors' code reads becomes its converted copy, where there is one.

    Raises InputError when the asset cannot be had.
    """
    from ffaa import assets
    from ffaa.assets.published import converted

    if source in assets.TABLE:
        return str(assets.fetch(source))
    return str(converted(source) or source)


def load_vision_tower(source: Source, image_size: int | None = None, seed: int = 0) -> CLIPVisionModel:
    """A CLIP vision tower in fp32 on the CPU, in eval mode, for square pictures of ``image_size`` pixels.

    A mapping holds ``CLIPVisionConfig`` values and gives random weights drawn from ``seed``. Where ``image_size``
    differs from the tower's own, the position table is interpolated once and stored (see ``resize_position_table``).
    Raises InputError when the weights cannot be found or do not fill the tower.
    """
    if isinstance(source, Mapping):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                tower = CLIPVisionModel(CLIPVisionConfig(**source))
            except (ValueError, TypeError, RuntimeError, StrictDataclassError) as error:
                raise InputError(f"no image tower is made of {dict(source)}: {str(error).splitlines()[0]}") from error
    else:
        tower = _pretrained_tower(source)
    if image_size is not None:
        resize_position_table(tower, image_size)
    return tower.eval()


def hidden_states(tower: nn.Module, pixel_values: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """(N, 3, S, S) -> hidden states (N, 1 + patches, C) at ``layers`` (0 = embeddings, -1 = last layer)."""
    states = tower(pixel_values, output_hidden_states=True).hidden_states
    return [states[layer] for layer in layers]


def _pretrained_tower(source: str) -> CLIPVisionModel:
    place = resolve_source(source)
    try:
        tower, report = CLIPVisionModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise InputError(f"no CLIP vision tower at {source!r}: {str(error).splitlines()[0]}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{source!r} is not a whole CLIP vision tower, it lacks {', '.join(missing[:5])}")
    return tower


def resize_position_table(tower: CLIPVisionModel, image_size: int) -> None:
    """Make ``tower`` read ``image_size`` x ``image_size`` pictures: bicubic interpolation of its patch positions.

    The class token's position is kept; the new table replaces the old one and ``config.image_size`` is updated, so the
    result is a plain CLIP tower that saves and loads as any other. Raises InputError when ``image_size`` is not a
    positive multiple of the patch size.
    """
    embeddings = tower.embeddings
    patch = int(embeddings.patch_size)
    if image_size <= 0 or image_size % patch:
        raise InputError(f"image_size {image_size} is not a positive multiple of the tower's patch size {patch}")
    if image_size == embeddings.image_size:
        return
    table = embeddings.position_embedding.weight.detach()
    old_side, new_side = math.isqrt(table.shape[0] - 1), image_size // patch
    patches = table[1:].T.reshape(1, -1, old_side, old_side)
    patches = nn.functional.interpolate(
        patches.float(), size=(new_side, new_side), mode="bicubic", align_corners=False, antialias=False
    )
    table = torch.cat([table[:1], patches.flatten(2)[0].T.to(table.dtype)])
    embeddings.position_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    embeddings.position_ids = torch.arange(table.shape[0], device=table.device).expand((1, -1))
    embeddings.image_size = image_size
    embeddings.num_patches = new_side**2
    embeddings.num_positions = table.shape[0]
    tower.config.image_size = image_size
