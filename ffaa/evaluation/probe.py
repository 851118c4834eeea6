"""The reference every model must beat: logistic regression on mean and deviation of patches in frozen CLIP layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ffaa.backbones.patch_features import patch_features


@dataclass(frozen=True)
class ProbeSettings:
    """What the probe reads and how strongly it is regularised."""

    vision: str | dict[str, Any] = "clip_vit_b16"
    """Asset name, Hugging Face folder or id, or a mapping of CLIPVisionConfig values (random weights)."""
    image_size: int = 160
    layers: tuple[int, ...] = (4, 6, 8, 11)
    regularisation: float = 1e-3
    """C of scikit-learn's LogisticRegression."""


def probe_features(images: Sequence[Path], cache: Path, settings: ProbeSettings, dtype: torch.dtype) -> np.ndarray:
    """Mean and standard deviation over patches of every channel of every layer, (pictures, 2 * layers * width)."""
    features = patch_features(
        images, cache, vision=settings.vision, image_size=settings.image_size, layers=settings.layers, dtype=dtype
    )
    # Block by block: the whole array in float32 would take twice its several gigabytes.
    return np.concatenate([_pooled(features[start : start + 64]) for start in range(0, len(features), 64)])


def fit_probe(features: np.ndarray, labels: Sequence[int] | np.ndarray, settings: ProbeSettings) -> Pipeline:
    """A fitted probe; ``predict_proba(x)[:, 1]`` is P(fake). ``labels`` are 0 real, 1 fake."""
    return _pipeline(settings).fit(features, labels)


def cross_validated(
    features: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    people: Sequence[str],
    settings: ProbeSettings,
    folds: int = 5,
) -> np.ndarray:
    """P(fake) of every picture by a probe that saw neither it nor any picture of the same person."""
    scores: np.ndarray = cross_val_predict(
        _pipeline(settings), features, labels, groups=people, cv=GroupKFold(folds), method="predict_proba"
    )
    return scores[:, 1]


def _pipeline(settings: ProbeSettings) -> Pipeline:
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=settings.regularisation, class_weight="balanced", max_iter=500)
    )


def _pooled(block: np.ndarray) -> np.ndarray:
    tokens = block.astype(np.float32)
    return np.concatenate([tokens.mean(1), tokens.std(1)], axis=1)
