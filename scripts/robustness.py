"""How a method's figures fall when pictures are corrupted: a sweep over kinds and levels, as table, JSON and picture.

Every point is an evaluation with ``--degrade``, whose result folder a second call finds, so that a killed sweep goes
on. The JSON maps each corruption to its levels (0: the pictures as they are), accuracies and AUCs, and to what they are
``of``: method, model, weights and number of pictures. Later sweeps of the same add their corruptions and levels to it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffaa.config import Switch, parse
from ffaa.data.corruptions import CORRUPTIONS
from ffaa.evaluation.benchmarks import EvalConfig, Result, sweep
from ffaa.evaluation.result_folder import read_config
from ffaa.runtime import (
    EXIT_DONE,
    EXIT_PARTIAL,
    PROJECT_ROOT,
    Rank,
    atomic_write_text,
    closest,
    config_hash,
    locked,
    make_folder,
    run_door,
)
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    benchmark: str = "free_ma"
    """One benchmark, by its name or its folder."""
    method: str = "ffaa"
    """The system."""
    model: str = "mini"
    """A folder of configs/<method>/."""
    checkpoint: Path | None = None
    """Weights instead of those that the model's config names."""
    corruptions: str = ",".join(CORRUPTIONS)
    """Kinds, separated by commas."""
    levels: str = "1,2,3,4,5"
    """Levels of each, separated by commas."""
    eval_num: int = -1
    """How many pictures; -1 for all."""
    generate_num: int | None = None
    """Answers per picture."""
    max_new_tokens: int | None = None
    """Token limit of an answer."""
    crop: Switch = False
    """Cut out the largest face, after the corruption."""
    cache: Switch = True
    """Use answers that earlier runs kept, and keep new ones; each corruption makes new pictures."""
    seed: int = 0
    """Of the corruptions, and chooses the free questions."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    benchmark_root: Path | None = None
    """Folder of the benchmarks."""
    result_root: Path | None = None
    """Folder of the results."""
    out: Path | None = None
    """Folder for robustness.json and robustness.png; by default results/<benchmark>/robustness-<method>-<model>-<hash>,
    the hash of options, weights and pictures."""

    @property
    def names(self) -> list[str]:
        """The chosen kinds."""
        names = list(dict.fromkeys(name.strip() for name in self.corruptions.split(",") if name.strip()))
        if not names:
            raise InputError(f"no corruption given: --corruptions takes {', '.join(CORRUPTIONS)}")
        for name in names:
            if name not in CORRUPTIONS:
                raise InputError(f"no corruption {name!r}{closest(name, CORRUPTIONS)}")
        return names

    @property
    def strengths(self) -> list[int]:
        """The chosen levels, without 0."""
        words = [word.strip() for word in self.levels.split(",") if word.strip()]
        if not words or not all(word in "12345" and len(word) == 1 for word in words):
            raise InputError(f"levels are numbers from 1 to 5 with commas between them, got {self.levels!r}")
        return sorted(set(map(int, words)))


def results_of(options: Options, check: Callable[[Result], object]) -> dict[str, Result]:
    """The result under each corruption, and under none as ``""``; ``check`` is called on the latter, the first."""
    if "," in options.benchmark:
        raise InputError("give one benchmark: curves of several would need a call each")
    told = {
        key: getattr(options, key)
        for key in (
            "benchmark", "method", "model", "checkpoint", "eval_num", "generate_num", "max_new_tokens", "crop", "cache",
            "seed", "device", "dtype", "benchmark_root", "result_root",
        )
    }  # fmt: skip
    wanted = ["", *(f"{name}@{level}" for name in options.names for level in options.strengths)]
    found: dict[str, Result] = {}
    for degrade, results in zip(wanted, sweep(EvalConfig(**told), wanted), strict=True):
        for result in results:
            if not degrade:
                check(result)
            found[degrade] = result
    return found


def curves(results: Mapping[str, Result], names: Sequence[str], levels: Sequence[int]) -> dict[str, Any]:
    """Corruption -> ``levels, values, acc, auc`` and their intervals, the uncorrupted pictures first."""

    def figure(name: str, key: str) -> list[Any]:
        of = [results[""], *(results[f"{name}@{level}"] for level in levels)]
        return [result.summary["decisions"]["method"][key] for result in of]

    return {
        name: {
            "levels": [0, *levels],
            "values": [None, *(CORRUPTIONS[name].levels[level - 1] for level in levels)],
            "parameter": CORRUPTIONS[name].parameter,
            **{short: figure(name, key) for short, key in FIGURES.items()},
        }
        for name in names
    }


FIGURES = {
    "acc": "accuracy",
    "acc_interval": "accuracy_interval",
    "auc": "auc",
    "auc_interval": "auc_interval",
    "bacc": "balanced_accuracy",
    "recall_real": "recall_real",
    "recall_fake": "recall_fake",
}


Curves = dict[str, dict[str, Any]]
FILE = "robustness.json"
_COLUMNS = ("levels", "values", *FIGURES)


def identity(clean: Result) -> dict[str, Any]:
    """What all curves of a file are of; ``options`` is a hash of all that an analysis depends on but the corruption."""
    facts = read_config(clean.folder)
    # The block's size changes no figure, and going on with a sweep may change it.
    options = {key: value for key, value in facts.items() if key not in ("degrade", "block_size")}
    return {
        "method": facts.get("method"),
        "model": facts.get("model"),
        "fingerprint": facts.get("fingerprint"),
        "pictures": clean.summary["n"],
        "options": config_hash(options),
    }


def read_kept(file: Path, of: Mapping[str, Any]) -> Curves:
    """The curves that earlier sweeps wrote; none where there is no file.

    Raises:
        InputError: the file is none of this program's, or its curves are of something else than ``of``.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {file}, to which the curves would be added: {error}") from error
    sound = isinstance(found, dict) and all(map(_is_curve, found.values()))
    if not sound:
        raise InputError(f"{file} holds no curves of this program; give another --out")
    for name, curve in found.items():
        if curve.get("of") != of:
            raise InputError(f"{file}: {name} is of another method, weights, options or pictures; give another --out")
    return dict(found)


def _is_curve(curve: Any) -> bool:
    columns = [curve.get(key) for key in _COLUMNS] if isinstance(curve, dict) else [None]
    return all(isinstance(column, list) and len(column) == len(columns[0] or ()) for column in columns)


def merged(kept: Curves, new: Curves) -> Curves:
    """All corruptions, and of one that both have all levels; where both have a level, the new figures."""
    curves = {**kept, **new}
    for name in kept.keys() & new.keys():
        at = {level: (curve, i) for curve in (kept[name], new[name]) for i, level in enumerate(curve["levels"])}
        curves[name] = {
            **new[name],
            **{key: [curve[key][i] for _, (curve, i) in sorted(at.items())] for key in _COLUMNS},
        }
    return curves


def table(found: Mapping[str, Mapping[str, Any]], key: str, title: str) -> str:
    """A Markdown table, a row a corruption and a column a level, in %."""
    levels = next(iter(found.values()))["levels"]
    head = f"| {title} | " + " | ".join("none" if not level else f"level {level}" for level in levels) + " |"
    rows = [
        f"| {name} | " + " | ".join("-" if value is None else f"{100 * value:.1f}" for value in curve[key]) + " |"
        for name, curve in found.items()
    ]
    return "\n".join([head, "|---" * (len(levels) + 1) + "|", *rows])


def draw(found: Mapping[str, Mapping[str, Any]], title: str, file: Path) -> None:
    """Accuracy and AUC over the levels, a small plot a corruption, with 95 % bands."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    across = min(4, len(found))
    down = -(-len(found) // across)
    figure, axes = plt.subplots(down, across, figsize=(2.6 * across, 2.2 * down), sharey=True, squeeze=False)
    for axis, (name, curve) in zip(axes.flat, found.items(), strict=False):
        for key, colour in (("acc", "#1b6ca8"), ("auc", "#c8553d")):
            # no number where there is no figure: matplotlib leaves a gap there
            values = [math.nan if value is None else 100 * value for value in curve[key]]
            intervals = zip(values, curve[f"{key}_interval"], strict=True)
            bands = [[100 * end for end in band] if band else [value, value] for value, band in intervals]
            axis.plot(curve["levels"], values, "o-", color=colour, ms=3, label=key.upper())
            low, high = ([band[side] for band in bands] for side in (0, 1))
            axis.fill_between(curve["levels"], low, high, color=colour, alpha=0.15, lw=0)
        axis.set_title(name, fontsize=9)
        axis.axhline(50, color="0.7", lw=0.8)
        axis.set_xticks(curve["levels"])
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(found) :]:
        axis.set_visible(False)
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


def usable(folder: Path) -> Path:
    """The folder, made where it is missing. Raises InputError where nothing can be written into it."""
    make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"nothing can be written into {folder}")
    return folder


def main() -> int:
    options = parse(Options, prog="robustness.py", description=__doc__ or "")
    if (count := Rank.of_this_process().count) > 1:  # of several, only the last to end has results to draw
        raise InputError(f"robustness.py works in one process, not in {count}: start it with python, without torchrun")
    names, levels = options.names, options.strengths
    if options.out:
        usable(options.out)  # not only after hours of analysing

    def place(clean: Result) -> Path:
        name = f"robustness-{options.method}-{Path(options.model).name}-{identity(clean)['options']}"
        return options.out or (options.result_root or PROJECT_ROOT / "results") / clean.benchmark / name

    results = results_of(options, lambda clean: read_kept(place(clean) / FILE, identity(clean)))
    clean = results[""]
    out, of = usable(place(clean)), identity(clean)
    found = {name: {**curve, "of": of} for name, curve in curves(results, names, levels).items()}
    title = f"{clean.benchmark}, {options.method}-{Path(options.model).name}, {clean.summary['n']} pictures"
    with locked(out, ".lock", wait=True):  # of two sweeps that end together neither loses its curves
        every = merged(read_kept(out / FILE, of), found)
        atomic_write_text(out / FILE, json.dumps(every, indent=1, allow_nan=False) + "\n")
        draw(every, title, out / "robustness.png")
    print(f"{title}\n\n{table(found, 'acc', 'ACC')}\n\n{table(found, 'auc', 'AUC')}\n\nsaved in {out}")
    return EXIT_PARTIAL if any(result.summary["n_failed"] for result in results.values()) else EXIT_DONE


if __name__ == "__main__":
    run_door(main)
