"""Score benchmarks by the linear probe that every model must beat, trained on the same pictures as FFAA-mini.

Writes ``<out>/<benchmark>.json``: the hash of the pictures (``data``, as in a run's config), settings, figures with
95 % intervals, and P(fake) of every picture by its name. The sets are valid where the probe's AUC on ``mini_ma`` lies
within .86 and .93, on its one-region edits within .68 and .80.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffaa.config import Switch, parse
from ffaa.data.benchmark import Item, list_benchmarks, load_benchmark
from ffaa.data.images import inside
from ffaa.evaluation.runner import data_fingerprint
from ffaa.forge.dataset import PICTURES, read_pictures
from ffaa.forge.forgery import Kind
from ffaa.metrics.detection import decision_metrics, groups_of
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, pick_device, pick_dtype, run_door, to_plain
from ffaa.types import InputError

if TYPE_CHECKING:
    import torch

    from ffaa.evaluation.probe import ProbeSettings

REGULARISATIONS = (1e-4, 1e-3, 1e-2)
"""Values of C that ``--choose`` tries."""


@dataclass(frozen=True)
class Options:
    training: Path = PROJECT_ROOT / "data" / "mini" / "training"
    """Built training pictures; their features are cached in its folder features/."""
    benchmarks: str = ""
    """Names, separated by commas; all built ones when empty."""
    root: Path = PROJECT_ROOT / "benchmark"
    """Folder that holds benchmarks."""
    features: Path = PROJECT_ROOT / "data" / "features"
    """Cache of the benchmarks' features."""
    out: Path = PROJECT_ROOT / "results" / "probe"
    """Folder for the results."""
    choose: Switch = False
    """Choose C by cross-validation over the training people, instead of the default of ProbeSettings."""
    dtype: str = "auto"
    """Precision of the frozen tower."""


def choose_regularisation(
    features: np.ndarray, labels: np.ndarray, people: Sequence[str], base: ProbeSettings
) -> float:
    """The C of REGULARISATIONS with the largest AUC on people of the training set that a fit did not see."""
    from ffaa.evaluation.probe import cross_validated

    aucs = {}
    for value in REGULARISATIONS:
        scores = cross_validated(features, labels, people, replace(base, regularisation=value))
        aucs[value] = roc_auc(labels, scores) or 0.0
        print(f"C {value:g}: AUC {aucs[value]:.4f} on left-out training people", flush=True)
    return max(aucs, key=lambda value: aucs[value])


def figures_of(items: Sequence[Item], scores: np.ndarray, kinds: Sequence[str]) -> dict[str, Any]:
    """ACC, AUC and the rest over all pictures, and over the real ones and the fakes of each kind.

    Intervals are by person or video where the benchmark tells, as those of the runs that the probe is shown beside.
    """
    groups = groups_of([{"id": item.id, "group": item.group} for item in items])

    def figures(kept: Sequence[int]) -> dict[str, Any]:
        verdicts = ["fake" if scores[i] > 0.5 else "real" for i in kept]
        return decision_metrics(
            [items[i].label for i in kept],
            verdicts,
            [float(scores[i]) for i in kept],
            groups=None if groups is None else [groups[i] for i in kept],
        )

    of_kind = {
        kind: figures([i for i, other in enumerate(kinds) if other in (Kind.REAL, kind)])
        for kind in sorted(set(kinds) - {Kind.REAL})
    }
    return {**figures(range(len(items))), "by_kind": of_kind}


def _names(options: Options) -> list[str]:
    names = [name for name in options.benchmarks.split(",") if name] or [
        name for name in list_benchmarks(options.root) if (options.root / name / PICTURES).is_file()
    ]
    if not names:
        raise InputError(f"{options.root} holds no benchmark built by scripts/data/build_benchmarks.py")
    return names


def _row(name: str, figures: dict[str, Any]) -> str:
    def cell(key: str) -> str:
        low, high = figures[f"{key}_interval"]
        return f"{figures[key]:.3f} [{low:.3f}, {high:.3f}]"

    counts = f"{figures['n_real']}+{figures['n_fake']}"
    return (
        f"{name:<20} {counts:>9}  {cell('accuracy'):>21}  {cell('auc'):>21}  "
        f"{figures['recall_real']:>6.3f} {figures['recall_fake']:>6.3f}"
    )


def _score_benchmark(name: str, probe: Any, settings: ProbeSettings, dtype: torch.dtype, options: Options) -> None:
    from ffaa.evaluation.probe import probe_features

    benchmark = load_benchmark(name, options.root)
    kind_of = {Path(picture["image"]).name: picture["kind"] for picture in read_pictures(benchmark.root)}
    paths = [item.path for item in benchmark.items]
    features = probe_features(paths, options.features / benchmark.name, settings, dtype)
    scores = probe.predict_proba(features)[:, 1]
    figures = figures_of(benchmark.items, scores, [kind_of[item.id] for item in benchmark.items])
    print(_row(benchmark.name, figures), flush=True)
    if len(figures["by_kind"]) > 1:
        for kind, part in figures["by_kind"].items():
            print(_row(f"  {kind}", part), flush=True)
    result = {
        "benchmark": benchmark.name,
        "data": data_fingerprint(benchmark),
        "settings": {**to_plain(settings), "dtype": str(dtype).removeprefix("torch.")},
        "metrics": figures,
        "scores": {item.id: round(float(score), 6) for item, score in zip(benchmark.items, scores, strict=True)},
    }
    atomic_write_text(options.out / f"{benchmark.name}.json", json.dumps(result, indent=1) + "\n")


def main() -> int:
    options = parse(Options, prog="probe_benchmarks.py", description=__doc__ or "")
    from ffaa.evaluation.probe import ProbeSettings, fit_probe, probe_features

    names = _names(options)
    pictures = read_pictures(options.training)
    settings, dtype = ProbeSettings(), pick_dtype(options.dtype, pick_device("cpu"))
    images = [inside(options.training, picture["image"]) for picture in pictures]
    features = probe_features(images, options.training / "features", settings, dtype)
    labels = np.array([int(picture["label"] == "fake") for picture in pictures])
    if options.choose:
        people = [picture["person"] for picture in pictures]
        chosen = choose_regularisation(features, labels, people, settings)
        settings = replace(settings, regularisation=chosen)
    probe = fit_probe(features, labels, settings)
    print(f"probe on {len(pictures)} pictures of {options.training}, C {settings.regularisation:g}")
    print(f"{'set':<20} {'n':>9}  {'ACC [95 %]':>21}  {'AUC [95 %]':>21}  {'TNR':>6} {'TPR':>6}")
    for name in names:
        _score_benchmark(name, probe, settings, dtype, options)
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
