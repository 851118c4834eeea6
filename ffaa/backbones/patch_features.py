"""Patch tokens of a frozen CLIP tower at several layers, side by side, computed once for a set of pictures."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm
from transformers import CLIPImageProcessor, CLIPVisionModel

from ffaa.backbones.identity import base_hash
from ffaa.backbones.vision import Source, hidden_states, load_vision_tower, resolve_source
from ffaa.data.images import open_image
from ffaa.runtime import locked, make_folder

log = logging.getLogger(__name__)

_BLOCK = 32


def patch_features(
    images: Sequence[Path], cache: Path, *, vision: Source, image_size: int, layers: Sequence[int], dtype: torch.dtype
) -> np.ndarray:
    """Hidden states of the patches at ``layers`` (indices as in LLaVA's ``vision_feature_layer``), concatenated.

    Returns a memory-mapped float16 array (pictures, patches, len(layers) * width), kept in the folder ``cache`` under a
    name made of the pictures, the tower, its weights and the settings, so that a changed set is computed anew. Of two
    processes that want the same one computes, and the other waits for it.

    Raises:
        InputError: the tower or a picture cannot be had; the folder cannot be made.
    """
    tower_name = vision if isinstance(vision, str) else dict(vision)
    files = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in images]
    key = json.dumps([*files, tower_name, _weights_of(vision), image_size, *layers])
    path = cache / f"{hashlib.sha256((key + str(dtype)).encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        make_folder(cache)
        with locked(cache, f".{path.stem}.lock", wait=True):
            if not path.is_file():  # another process may have made it meanwhile
                _compute(images, path, load_vision_tower(vision, image_size).to(dtype).eval(), image_size, layers)
    return np.asarray(np.load(path, mmap_mode="r"))


def _weights_of(vision: Source) -> str | None:
    """What names the tower's weights; None of a mapping, whose numbers follow from itself."""
    if not isinstance(vision, str):
        return None
    found = base_hash(resolve_source(vision))
    if found is None:
        load_vision_tower(vision)  # of the hub and not fetched yet: this does
        found = base_hash(resolve_source(vision))
    return found


def _compute(
    images: Sequence[Path], path: Path, tower: CLIPVisionModel, image_size: int, layers: Sequence[int]
) -> None:
    """Write the features to ``path``, which is there whole or not at all."""
    patches = (image_size // tower.config.patch_size) ** 2
    partial = path.with_suffix(".partial")
    shape = (len(images), patches, len(layers) * tower.config.hidden_size)
    out = open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    for start in tqdm(range(0, len(images), _BLOCK), desc="patch features", unit="block"):
        block = images[start : start + _BLOCK]
        out[start : start + len(block)] = _forward(tower, block, image_size, layers)
    out.flush()
    partial.rename(path)


@torch.inference_mode()
def _forward(tower: CLIPVisionModel, paths: Sequence[Path], image_size: int, layers: Sequence[int]) -> np.ndarray:
    side = {"height": image_size, "width": image_size}
    processor = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    pixels = processor(images=[open_image(path) for path in paths], return_tensors="pt")["pixel_values"]
    states = [state[:, 1:] for state in hidden_states(tower, pixels.to(tower.dtype), layers)]
    features: np.ndarray = torch.cat(states, dim=-1).to(torch.float16).numpy()
    return features
