"""Patch tokens of frozen towers, on a tiny tower with random weights."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.backbones import patch_features as module
from ffaa.backbones.patch_features import patch_features
from ffaa.backbones.vision import load_vision_tower

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)).save(path)
    return paths


def _features(images: list[Path], cache: Path, layers: tuple[int, ...] = (1, 3), **other: Any) -> np.ndarray:
    settings: dict[str, Any] = {"vision": TINY, "image_size": 32, "dtype": torch.float32, **other}
    return patch_features(images, cache, layers=layers, **settings)


def test_layers_stand_side_by_side_and_the_class_token_is_left_out(images: list[Path], tmp_path: Path) -> None:
    both = _features(images, tmp_path / "cache")
    assert both.shape == (5, 16, 32) and both.dtype == np.float16
    for place, layer in enumerate((1, 3)):
        alone = _features(images, tmp_path / "cache", (layer,))
        assert np.array_equal(both[..., 16 * place : 16 * (place + 1)], alone)
    assert np.array_equal(_features(images, tmp_path / "cache", (-1,)), _features(images, tmp_path / "cache", (3,)))


def test_features_are_the_towers_hidden_states(images: list[Path], tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    pixels = processor(images=[Image.open(path) for path in images], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = load_vision_tower(TINY, 32)(pixels, output_hidden_states=True).hidden_states
    expected = states[2][:, 1:].numpy()
    assert np.allclose(_features(images, tmp_path / "cache", (2,)), expected, atol=2e-2)


def test_the_size_of_blocks_changes_nothing(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _features(images, tmp_path / "a")
    monkeypatch.setattr(module, "_BLOCK", 2)
    assert np.allclose(_features(images, tmp_path / "b"), whole, atol=1e-2)


def test_features_are_computed_once_and_anew_for_other_pictures_or_settings(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, loads = tmp_path / "cache", []

    def counted(*args: Any) -> Any:
        loads.append(args)
        return load_vision_tower(*args)

    monkeypatch.setattr(module, "load_vision_tower", counted)
    first = _features(images, cache)
    assert np.array_equal(_features(images, cache), first) and len(loads) == 1
    _features(images[:3], cache)
    _features(images, cache, (2,))
    _features(images, cache, dtype=torch.bfloat16)
    assert len(loads) == 4
    Image.new("RGB", (40, 40)).save(images[0])
    os.utime(images[0], ns=(1, 1))
    assert not np.array_equal(_features(images, cache)[0], first[0]) and len(loads) == 5


def test_features_of_other_weights_under_the_same_name_are_computed_anew(images: list[Path], tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        load_vision_tower(TINY, seed=seed).save_pretrained(tmp_path / "tower")
        found.append(_features(images, tmp_path / "cache", vision=str(tmp_path / "tower")))
    assert not np.array_equal(found[0], found[1])


def test_of_two_that_want_the_same_features_one_computes(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def slow(*args: Any) -> Any:
        loads.append(args)
        time.sleep(0.5)
        return load_vision_tower(*args)

    monkeypatch.setattr(module, "load_vision_tower", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: _features(images, tmp_path / "cache"), range(2))
    assert np.array_equal(one, other) and len(loads) == 1


def test_an_interrupted_computation_leaves_no_result(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_forward", cut)
    with pytest.raises(KeyboardInterrupt):
        _features(images, tmp_path / "cache")
    monkeypatch.undo()
    assert np.isfinite(_features(images, tmp_path / "cache")).all()
