"""Measure what tells real from fake without looking at the face: file, JPEG tables, size, colour, corners, background.

Every cue is scored on its own, as an AUC; 0.5 says nothing. A cue of one number is folded to 0.5 or more. A cue of many
is a logistic regression, cross-validated by person, and not folded: under 0.5 it says nothing about new people.
``null95`` is what 95 % of pure chance stays below, for one cue of one number at the set's size. Corners and border are
read only where the masks say that no forgery reached (a face that fills its photograph is mirrored into the border).
Exit code 2 when a cue exceeds ``--limit`` where no exception is named for the edit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ffaa.config import Switch, parse
from ffaa.data.benchmark import list_benchmarks
from ffaa.data.images import inside
from ffaa.forge.dataset import PICTURES, read_pictures
from ffaa.forge.forgery import Kind
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door
from ffaa.types import InputError

PATCH = 16
"""Side in pixels of the squares that the border of a picture is cut into; the corners are four of them."""
TOUCHED = 0.01
"""A square is background when the masks cover more than this share of it in at most this share of the forgeries."""
FOLDS = 5
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

SINGLE = ("file size", "JPEG tables", "resolution", "red", "green", "blue", "luminance", "corner mean")
LEARNT = ("corner pixels", "border spectrum")
CUES = (*SINGLE, *LEARNT)

_OTHER_PICTURES = "no photograph of the real set's people and places lies behind it, so that everything differs"
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    **{(Kind.SYNTHESIS, cue): _OTHER_PICTURES for cue in CUES if cue not in ("JPEG tables", "resolution")},
}
"""(kind of edit, cue) -> why it may tell. Fakes of that kind are left out of that cue's figure, which then stands in
brackets where it is measured on all fakes because no others are there."""


@dataclass(frozen=True)
class Options:
    benchmarks: str = ""
    """Names, separated by commas; all built ones when empty."""
    root: Path = PROJECT_ROOT / "benchmark"
    """Folder that holds benchmarks."""
    folder: Path | None = None
    """A single set of pictures instead (a folder with pictures.jsonl, such as data/mini/training)."""
    limit: float = 0.58
    """Largest AUC of a cue that is no leak."""
    by_kind: Switch = False
    """One more row for each kind of edit."""
    out: Path | None = None
    """JSON file for the figures."""


@dataclass(frozen=True)
class Cues:
    """What was read from one set: single numbers (n,) and feature rows (n, d) by cue."""

    single: Mapping[str, np.ndarray]
    learnt: Mapping[str, np.ndarray]
    fake: np.ndarray
    kinds: np.ndarray
    people: np.ndarray

    def counts(self) -> tuple[int, int]:
        """How many fakes and how many reals."""
        n_fake = int(self.fake.sum())
        return n_fake, len(self.fake) - n_fake


def read_cues(folder: Path) -> Cues:
    """Open every picture of a built set once."""
    pictures = read_pictures(folder)
    rows = [_of_picture(inside(folder, picture["image"])) for picture in pictures]
    masks = [
        cv2.imread(str(inside(folder, picture["mask"])), cv2.IMREAD_GRAYSCALE)
        for picture in pictures
        if picture["mask"] and picture["kind"] != Kind.SYNTHESIS
    ]
    kept = background([np.asarray(mask, np.float32) / 255 for mask in masks], len(rows[0]["squares"]))
    squares = np.stack([row["squares"] for row in rows])
    corners = squares[:, [place for place in corner_places(squares.shape[1]) if kept[place]]]
    single = {name: np.array([row[name] for row in rows]) for name in SINGLE if name in rows[0]}
    return Cues(
        single={**single, "corner mean": corners.mean((1, 2, 3, 4))},
        learnt={
            "corner pixels": np.concatenate([corners.mean((2, 3)), corners.std((2, 3))], -1).reshape(len(rows), -1),
            "border spectrum": np.stack([spectrum(row[kept]) for row in squares]),
        },
        fake=np.array([picture["label"] == "fake" for picture in pictures]),
        kinds=np.array([picture["kind"] for picture in pictures]),
        people=np.array([picture["person"] for picture in pictures]),
    )


def _of_picture(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        tables = getattr(image, "quantization", {})
        pixels = np.asarray(image.convert("RGB"), np.float32)
    red, green, blue = pixels.mean((0, 1))
    return {
        "file size": path.stat().st_size,
        "JPEG tables": np.mean([list(table) for table in tables.values()]) if tables else 0.0,
        "resolution": pixels.shape[0] * pixels.shape[1],
        "red": red,
        "green": green,
        "blue": blue,
        "luminance": float(pixels.mean((0, 1)) @ _LUMINANCE),
        "squares": border_squares(pixels, PATCH).astype(np.uint8),
    }


def border_squares(pixels: np.ndarray, side: int) -> np.ndarray:
    """The squares along the border of a picture (H, W, ...): (n, side, side, ...); ``side`` divides H and W."""
    tops, lefts = range(0, pixels.shape[0], side), range(0, pixels.shape[1], side)
    border = [(y, x) for y in tops for x in lefts if y in (0, tops[-1]) or x in (0, lefts[-1])]
    return np.stack([pixels[y : y + side, x : x + side] for y, x in border])


def corner_places(n_squares: int) -> tuple[int, int, int, int]:
    """Where the corners stand among the border squares of a square picture."""
    row = n_squares // 4 + 1
    return 0, row - 1, n_squares - row, n_squares - 1


def background(masks: Sequence[np.ndarray], n_squares: int) -> np.ndarray:
    """Which border squares no forgery reaches, (n_squares,); ``masks`` are (S, S) in [0, 1].

    Raises:
        InputError: forgeries reach all corners, so that no background is left to measure on.
    """
    if not masks:
        return np.ones(n_squares, bool)
    side = masks[0].shape[0] // (n_squares // 4 + 1)
    covered = np.stack([border_squares(mask, side).mean((1, 2)) for mask in masks])
    kept: np.ndarray = (covered > TOUCHED).mean(0) <= TOUCHED
    if not kept[list(corner_places(n_squares))].any():
        raise InputError("the forgeries reach every corner of the pictures: there is no background to measure leaks on")
    return kept


def spectrum(squares: np.ndarray) -> np.ndarray:
    """Log power by spatial frequency (PATCH / 2 rings), mean over windowed squares (n, PATCH, PATCH, 3)."""
    grey = squares.astype(np.float32) @ _LUMINANCE
    window = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    power = np.abs(np.fft.fft2((grey - grey.mean((1, 2), keepdims=True)) * window)) ** 2
    frequency = np.fft.fftfreq(PATCH) * PATCH
    radius = np.hypot(frequency[:, None], frequency[None]).round().astype(int)
    rings = [power[:, radius == r].mean(1) for r in range(1, PATCH // 2 + 1)]
    return np.log(np.stack(rings, 1) + 1e-2).mean(0).astype(np.float32)


def folded_auc(fake: np.ndarray, values: np.ndarray) -> float:
    """AUC of a single number, 0.5 or more."""
    auc = roc_auc(fake, values)
    assert auc is not None, "callers pass both classes"
    return max(auc, 1 - auc)


def learnt_auc(fake: np.ndarray, features: np.ndarray, people: np.ndarray) -> float:
    """AUC of a logistic regression on people that it did not see."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = GroupKFold(min(FOLDS, len(set(people[fake])), len(set(people[~fake]))))
    scores = cross_val_predict(model, features, fake, groups=people, cv=folds, method="predict_proba")[:, 1]
    auc = roc_auc(fake, scores)
    assert auc is not None, "callers pass both classes"
    return auc


def null_band(n_fake: int, n_real: int) -> float:
    """What a folded AUC of chance stays below in 95 % of sets (normal approximation of the Mann-Whitney statistic)."""
    return float(0.5 + 1.96 * np.sqrt((n_fake + n_real + 1) / (12 * n_fake * n_real)))


@dataclass(frozen=True)
class Figure:
    """AUC of one cue on one set; ``excepted`` when all its fakes are named in EXCEPTIONS for this cue."""

    auc: float
    n_fake: int
    excepted: bool


def measure(cues: Cues) -> dict[str, Figure]:
    """Every cue's figure on one set."""
    figures = {}
    for name in CUES:
        allowed = np.array([(kind, name) not in EXCEPTIONS for kind in cues.kinds])
        kept = ~cues.fake | allowed
        excepted = not (cues.fake & allowed).any()
        if excepted:
            kept = np.ones_like(cues.fake)
        fake = cues.fake[kept]
        if name in cues.single:
            auc = folded_auc(fake, cues.single[name][kept])
        else:
            auc = learnt_auc(fake, cues.learnt[name][kept], cues.people[kept])
        figures[name] = Figure(round(auc, 4), int(fake.sum()), excepted)
    return figures


def only_kind(cues: Cues, kind: str) -> Cues:
    """The real pictures and the fakes of one kind."""
    kept = ~cues.fake | (cues.kinds == kind)
    return Cues(
        {name: values[kept] for name, values in cues.single.items()},
        {name: values[kept] for name, values in cues.learnt.items()},
        cues.fake[kept],
        cues.kinds[kept],
        cues.people[kept],
    )


def leaks(figures: Mapping[str, Figure], limit: float) -> list[str]:
    """Names of the cues that tell more than they may."""
    return [name for name, figure in figures.items() if figure.auc > limit and not figure.excepted]


def _row(name: str, cues: Cues, figures: Mapping[str, Figure], limit: float) -> str:
    n_fake, n_real = cues.counts()
    cells = []
    for cue in CUES:
        figure = figures[cue]
        text = f"({figure.auc:.3f})" if figure.excepted else f"{figure.auc:.3f}"
        cells.append(f"{text + ('!' if cue in leaks(figures, limit) else ''):>{max(len(cue), 8)}}")
    return f"{name:<28} {n_real:>4}+{n_fake:<4} {null_band(n_fake, n_real):>6.3f}  " + "  ".join(cells)


def _sets(options: Options) -> Sequence[Path]:
    if options.folder is not None:
        return [options.folder]
    names = [name for name in options.benchmarks.split(",") if name] or [
        name for name in list_benchmarks(options.root) if (options.root / name / PICTURES).is_file()
    ]
    if not names:
        raise InputError(f"{options.root} holds no benchmark built by scripts/data/build_benchmarks.py")
    return [options.root / name for name in names]


def main() -> int:
    options = parse(Options, prog="check_leaks.py", description=__doc__ or "")
    cv2.setNumThreads(1)
    print(f"{'set':<28} {'n':>9} {'null95':>6}  " + "  ".join(f"{cue:>{max(len(cue), 8)}}" for cue in CUES))
    found: list[str] = []
    results: dict[str, dict[str, Any]] = {}
    for folder in _sets(options):
        cues = read_cues(folder)
        rows = {folder.name: cues}
        kinds = sorted(set(cues.kinds[cues.fake]))
        if options.by_kind and len(kinds) > 1:
            rows |= {f"  {kind}": only_kind(cues, kind) for kind in kinds}
        for name, part in rows.items():
            figures = measure(part)
            # The rows by kind are small: they are to look at, and marked only beyond what chance reaches.
            limit = options.limit if part is cues else max(options.limit, null_band(*part.counts()))
            print(_row(name, part, figures, limit), flush=True)
            if part is cues:
                found += [f"{name}: {cue}" for cue in leaks(figures, limit)]
            results[name if part is cues else f"{folder.name}/{name.strip()}"] = {
                cue: {"auc": figure.auc, "n_fake": figure.n_fake, "excepted": figure.excepted}
                for cue, figure in figures.items()
            }
    if options.out is not None:
        atomic_write_text(options.out, json.dumps(results, indent=1) + "\n")
    print("in brackets: named as an exception for this edit")
    for reason in dict.fromkeys(EXCEPTIONS.values()):
        edits = sorted({kind for (kind, _), why in EXCEPTIONS.items() if why == reason})
        print(f"  {', '.join(edits)}: {reason}")
    if found:
        raise InputError(f"{len(found)} cues tell real from fake above {options.limit}: {', '.join(found)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
