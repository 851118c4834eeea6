"""Measure what answers are worded by: terciles of the training photographs, and how often a probe tells each kind right."""

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
    limits = {
        field.name: tuple(round(float(q), 4) for q in np.quantile([facts[field.name] for facts in real], [1 / 3, 2 / 3]))
        for field in fields(Terciles)
    }
    settings = ProbeSettings()
    images = [inside(options.data, picture["image"]) for picture in pictures]
    features = probe_features(images, options.data / "features", settings, pick_dtype(options.dtype, pick_device("cpu")))
    labels = np.array([int(picture["label"] == "fake") for picture in pictures])
    scores = cross_validated(features, labels, [picture["person"] for picture in pictures], settings)
    slots = np.array([_slot(picture["kind"], picture["regions"]) for picture in pictures])
    right = (scores > 0.5) == labels.astype(bool)
    probability = {slot: round(float(right[slots == slot].mean()), 2) for slot in sorted(set(slots))}
    # Gradient-domain swaps are not trained on; what is said of them is what is said of swaps.
    dump_yaml(Wording(Terciles(**limits), {**probability, "poisson": probability["swap"]}), options.out)
    print(options.out.read_text())
    return EXIT_DONE


def _slot(kind: str, regions: list[str]) -> str:
    return f"local/{regions[0]}" if kind == Kind.LOCAL else kind


if __name__ == "__main__":
    run_door(main)
