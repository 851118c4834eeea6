"""Measure what answers are worded by: terciles of the training photographs, and how well a probe tells each kind."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ffaa.config import CONFIGS, dump_yaml, parse
from ffaa.data.images import inside
from ffaa.forge.dataset import read_pictures
from ffaa.forge.explain import Wording
from ffaa.forge.facts import Terciles
from ffaa.forge.forgery import Kind
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, pick_device, pick_dtype, run_door


@dataclass(frozen=True)
class Options:
    data: Path = PROJECT_ROOT / "data" / "mini" / "training"
    """Built training pictures."""
    out: Path = CONFIGS / "forge" / "wording.yaml"
    """File to write."""
    dtype: str = "auto"
    """Precision of the frozen tower."""


def main() -> int:
    options = parse(Options, prog="measure_wording.py", description=__doc__ or "")
    from ffaa.evaluation.probe import ProbeSettings, cross_validated, probe_features

    pictures = read_pictures(options.data)
    real = [picture["facts"] for picture in pictures if picture["kind"] == Kind.REAL]
    limits = {field.name: _terciles([facts[field.name] for facts in real]) for field in fields(Terciles)}
    settings, dtype = ProbeSettings(), pick_dtype(options.dtype, pick_device("cpu"))
    images = [inside(options.data, picture["image"]) for picture in pictures]
    features = probe_features(images, options.data / "features", settings, dtype)
    labels = np.array([int(picture["label"] == "fake") for picture in pictures])
    scores = cross_validated(features, labels, [picture["person"] for picture in pictures], settings)
    slots = np.array([_slot(picture["kind"], picture["regions"]) for picture in pictures])
    real_scores = scores[labels == 0]
    probability = {
        slot: round(_ranked_above(scores[labels == 1] if slot == Kind.REAL else scores[slots == slot], real_scores), 2)
        for slot in sorted(set(slots))
    }
    # Gradient-domain swaps are not trained on; what is said of them is what is said of swaps.
    dump_yaml(Wording(Terciles(**limits), {**probability, "poisson": probability["swap"]}), options.out)
    print(options.out.read_text())
    return EXIT_DONE


def _terciles(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return round(float(low), 4), round(float(high), 4)


def _ranked_above(fake: np.ndarray, real: np.ndarray) -> float:
    """Probability that a forged picture scores above a real one (AUC)."""
    return roc_auc([True] * len(fake) + [False] * len(real), np.concatenate([fake, real])) or 0.0


def _slot(kind: str, regions: list[str]) -> str:
    return f"local/{regions[0]}" if kind == Kind.LOCAL else kind


if __name__ == "__main__":
    run_door(main)
