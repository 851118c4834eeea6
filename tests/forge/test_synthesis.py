"""The generator of entire faces, with random weights and, where the asset is there, with its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ffaa.assets import fetch
from ffaa.forge.synthesis import LATENT, FaceGenerator, load_generator, synthesise


@pytest.fixture
def generator() -> FaceGenerator:
    torch.manual_seed(0)
    return FaceGenerator().eval()


def test_a_latent_becomes_a_picture_of_64_pixels(generator: FaceGenerator) -> None:
    with torch.no_grad():
        pictures = generator(torch.zeros(2, LATENT, 1, 1))
    assert pictures.shape == (2, 3, 64, 64) and pictures.abs().max() <= 1


def test_the_same_seed_gives_the_same_faces(generator: FaceGenerator) -> None:
    first, again, other = (synthesise(generator, seed, 3) for seed in (1, 1, 2))
    assert [picture.shape for picture in first] == [(64, 64, 3)] * 3 and first[0].dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[0], first[1])


def test_weights_are_read_from_the_folder(generator: FaceGenerator, tmp_path: Path) -> None:
    save_file(generator.state_dict(), tmp_path / "generator.safetensors")
    loaded = load_generator(tmp_path)
    assert not loaded.training
    assert np.array_equal(synthesise(loaded, 0, 1)[0], synthesise(generator, 0, 1)[0])


@pytest.mark.mini
def test_the_assets_generator_draws_faces() -> None:
    pictures = synthesise(load_generator(fetch("dcgan_faces")), 0, 4)
    assert all(picture.std() > 25 for picture in pictures), "neither flat nor noise alone"
    neighbours = np.corrcoef(pictures[0][:, :-1].ravel(), pictures[0][:, 1:].ravel())[0, 1]
    assert neighbours > 0.9
