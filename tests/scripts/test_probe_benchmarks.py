"""The probe's file: which pictures it is of, and intervals that know whose they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ffaa.data.benchmark import Item, load_benchmark, write_benchmark
from ffaa.evaluation import probe as probe_module
from ffaa.evaluation.probe import ProbeSettings
from ffaa.evaluation.runner import data_fingerprint
from ffaa.metrics.detection import decision_metrics
from scripts.data import probe_benchmarks
from tests.reporting.toy_results import Toy


def test_intervals_are_by_person() -> None:
    draw = np.random.default_rng(0)
    labels = ["real" if n < 32 else "fake" for n in range(64)]
    people = [f"p{n // 4}" for n in range(64)]
    scores = np.clip(draw.normal(0.4, 0.2, 16).repeat(4) + 0.2 * (np.arange(64) >= 32), 0, 1)
    items = [Item(str(n), Path(str(n)), labels[n], group=people[n]) for n in range(64)]
    found = probe_benchmarks.figures_of(items, scores, ["real" if n < 32 else "swap" for n in range(64)])
    verdicts = ["fake" if score > 0.5 else "real" for score in scores]
    expected = decision_metrics(labels, verdicts, scores.tolist(), groups=people)
    assert {key: found[key] for key in expected} == expected == found["by_kind"]["swap"]
    alone = probe_benchmarks.figures_of([Item(i.id, i.path, i.label) for i in items], scores, ["real"] * 64)
    (low, high), (low_alone, high_alone) = found["auc_interval"], alone["auc_interval"]
    assert high - low > 1.3 * (high_alone - low_alone)


class Half:
    """A probe that knows nothing."""

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        return np.full((len(features), 2), 0.5)


def test_the_file_says_which_pictures_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(tmp_path).benchmark("toy", 4)
    folder = tmp_path / "benchmark" / "toy"
    write_benchmark(folder, {f"{n:05d}.jpg": "fake" if n % 2 else "real" for n in range(4)})
    lines = [{"image": f"imgs/{n:05d}.jpg", "kind": "swap" if n % 2 else "real"} for n in range(4)]
    (folder / "pictures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def no_features(paths: Sequence[Path], *_: object) -> np.ndarray:
        return np.zeros((len(paths), 1))

    monkeypatch.setattr(probe_module, "probe_features", no_features)
    options = probe_benchmarks.Options(root=folder.parent, out=tmp_path / "probe")
    probe_benchmarks._score_benchmark("toy", Half(), ProbeSettings(), torch.float32, options)
    found = json.loads((tmp_path / "probe" / "toy.json").read_text())
    assert found["data"] == data_fingerprint(load_benchmark("toy", folder.parent))
    assert found["settings"]["dtype"] == "float32" and len(found["scores"]) == 4
