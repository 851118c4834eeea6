"""The linear probe: what it reads, what it learns, and that nobody it is tested on was in its fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.backbones.patch_features import patch_features
from ffaa.evaluation.probe import ProbeSettings, cross_validated, fit_probe, probe_features
from ffaa.metrics.ranking import roc_auc

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SETTINGS = ProbeSettings(vision=TINY, image_size=32, layers=(1, 2), regularisation=1.0)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """More pictures than are pooled at a time; every other one is brighter in its middle."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index:03d}.png" for index in range(70)]
    for index, path in enumerate(paths):
        pixels = rng.integers(0, 160, (32, 32, 3))
        if index % 2:
            pixels[8:24, 8:24] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return paths


def test_features_are_means_and_deviations_over_patches(images: list[Path], tmp_path: Path) -> None:
    features = probe_features(images, tmp_path / "cache", SETTINGS, torch.float32)
    assert features.shape == (70, 2 * 2 * 16) and features.dtype == np.float32
    tokens = patch_features(
        images, tmp_path / "cache", vision=TINY, image_size=32, layers=(1, 2), dtype=torch.float32
    ).astype(np.float32)
    assert np.allclose(features[:, :32], tokens.mean(1), atol=1e-5)
    assert np.allclose(features[:, 32:], tokens.std(1), atol=1e-5)


def test_the_probe_learns_what_can_be_seen(images: list[Path], tmp_path: Path) -> None:
    features = probe_features(images, tmp_path / "cache", SETTINGS, torch.float32)
    labels = np.arange(70) % 2
    scores = fit_probe(features[:40], labels[:40], SETTINGS).predict_proba(features[40:])[:, 1]
    auc = roc_auc(labels[40:], scores)
    assert auc is not None and auc > 0.95


def test_cross_validation_leaves_out_whole_people() -> None:
    rng = np.random.default_rng(0)
    n_people, each = 30, 8
    people = [f"person-{i}" for i in range(n_people) for _ in range(each)]
    labels = np.repeat(rng.permutation(n_people) % 2, each)
    marks = np.repeat(rng.normal(size=(n_people, 40)), each, axis=0) + rng.normal(0, 0.01, (len(people), 40))
    known = fit_probe(marks, labels, SETTINGS).predict_proba(marks)[:, 1]
    unseen = cross_validated(marks, labels, people, SETTINGS)
    assert roc_auc(labels, known) == 1
    auc = roc_auc(labels, unseen)
    assert unseen.shape == (len(people),) and auc is not None and auc < 0.8, "persons are no evidence about others"


def test_classes_count_alike_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 180 + [1] * 20)
    scores = fit_probe(rng.normal(size=(200, 3)), labels, SETTINGS).predict_proba(np.zeros((1, 3)))[0, 1]
    assert scores == pytest.approx(0.5, abs=0.1)


def test_a_small_c_regularises() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 20)), rng.integers(0, 2, 60)
    spread = [
        np.ptp(fit_probe(features, labels, replace(SETTINGS, regularisation=c)).predict_proba(features)[:, 1])
        for c in (1e-4, 1.0)
    ]
    assert spread[0] < 0.1 < spread[1]
