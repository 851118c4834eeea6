"""Measure whether heat maps mean anything, on forged pictures of which one region was edited and the mask is known.

Localisation: how much of a map lies inside the edit's mask, beside three maps that have not looked at the decision: the
whole picture, a Gaussian in its middle, the face's oval. A map that explains only where faces are is no better.
Deletion: how far MIDS's P(fake) moves for the same answers when the map's hottest square is blurred, beside its coldest
square of equal size in the face's oval and the square in the oval's middle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from ffaa.config import Switch, model_folder, parse
from ffaa.data.faces import NoFaceError
from ffaa.data.images import inside, open_image, open_mask
from ffaa.forge.dataset import PICTURES, read_pictures
from ffaa.forge.forgery import Kind
from ffaa.forge.regions import face_mask
from ffaa.metrics.calibration import sigmoid
from ffaa.metrics.localisation import (
    Square,
    centre_gaussian,
    deletion_squares,
    localisation,
    mean_of,
    paired_difference,
)
from ffaa.reporting.deletion import blurred, deletion_insertion
from ffaa.reporting.tables import make_console
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door, seed_everything, to_plain
from ffaa.types import InputError, Request, Verdict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ffaa.forge.faces import FaceLocator
    from ffaa.methods.base import Explains, Explanation
    from ffaa.types import Analysis, Box, GeneratedText

Line = Mapping[str, Any]

BASELINES = {"picture": "whole picture", "centre": "centre Gaussian", "face": "face oval"}
"""Maps that know nothing of the decision."""
FIGURES = {"energy": "energy\ninside", "pointing": "pointing\ngame", "iou": "IoU at\nhalf", "best_iou": "best\nIoU"}
MOVES = {"score": ("P(fake) moved, points", 100), "logit": ("logit fell", 1), "pixels": ("grey levels changed", 1)}
"""What a blurred square does, and what it is multiplied by to be shown: |change| of P(fake); how far the logit falls
that the map explains, less than nothing where it rises; mean |change| of the square's own pixels."""
FAKE = "called fake"
AREAS = ("deletion_area", "insertion_area")
SAME_LOGIT = 0.01
"""Largest difference of the explained logit and the decision's: one answer alone, or padded among others."""


@dataclass(frozen=True)
class Options:
    benchmark: Path | None = None
    """Built benchmark; by default benchmark/mini_regions, or benchmark/mini_ma where that is not built."""
    model: str = "mini"
    """Folder configs/ffaa/<model>/."""
    checkpoint: Path | None = None
    """Folder of trained weights, instead of the model's own."""
    limit: int = -1
    """So many pictures, drawn by the seed; -1: all that fit."""
    seed: int = 0
    """Draws pictures and each one's free question, and seeds the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16, of the language model."""
    block_size: int = 16
    """Pictures answered together."""
    cache: Switch = True
    """Use answers that earlier runs kept, and keep new ones."""
    eigen_smooth: Switch = True
    """The maps that inference writes; 0: Grad-CAM without the first principal component."""
    region: float = 0.04
    """Share of the picture that a blurred square takes; a face's oval, a fifth to a third of it, must hold two."""
    blur: float = 0.04
    """Standard deviation of the blur, as a share of the picture's shorter side."""
    curve_steps: int = 0
    """Steps of deletion and insertion curves of every map; 0: none. Each takes two judgements a step and map."""
    out: Path | None = None
    """File for all figures and every picture's; by default results/heatmaps/<benchmark>.json."""

    def __post_init__(self) -> None:
        if self.limit == 0 or self.limit < -1:
            raise InputError(f"limit must be at least 1, or -1 for all, got {self.limit}")
        if self.block_size < 1 or self.curve_steps < 0:
            raise InputError(
                f"block_size must be at least 1 and curve_steps 0, got {self.block_size, self.curve_steps}"
            )
        if not (0 < self.region <= 0.25 and 0 < self.blur <= 1):
            raise InputError(f"region is above 0, at most 0.25, blur at most 1; got {self.region} and {self.blur}")

    @property
    def folder(self) -> Path:
        """The benchmark's folder."""
        places = [PROJECT_ROOT / "benchmark" / name for name in ("mini_regions", "mini_ma")]
        return self.benchmark or next((place for place in places if (place / PICTURES).is_file()), places[-1])


@dataclass(frozen=True)
class Watched:
    """An explanation (``ffaa.methods.base.Explanation``) with another target."""

    module: nn.Module
    pixel_values: Tensor
    layers: Mapping[str, nn.Module]
    target: Callable[[Tensor], Tensor]
    shown: Box


def edited_pictures(options: Options) -> list[Line]:
    """The lines of forged pictures with one edited region, at most ``limit``, in the benchmark's order."""
    lines = [x for x in read_pictures(options.folder) if x["kind"] == Kind.LOCAL and len(x["regions"]) == 1]
    if not lines:
        raise InputError(f"{options.folder} holds no picture of which one region was edited")
    order = np.random.default_rng(options.seed).permutation(len(lines))
    return [lines[index] for index in sorted(order[: options.limit if options.limit > 0 else None])]


def deciding_logit(analysis: Analysis, row: Sequence[float]) -> float:
    """The log odds that ``analysis`` believes its chosen answer by, of that answer's ``row`` of MIDS logits.

    Of an answer without a verdict, the log odds of fake.
    """
    from ffaa.methods.ffaa.decision import fake_probability, match_logit

    if analysis.answer.verdict is not Verdict.UNPARSED:
        return match_logit(row, analysis.answer.verdict)
    fake = fake_probability(row)
    return math.log(fake) - math.log1p(-fake)


def chosen_row(analysis: Analysis, chosen: int) -> Sequence[float]:
    assert analysis.logits is not None, "a method with heat maps has logits"
    return analysis.logits[chosen]


def maps_of_decision(
    method: Explains, request: Request, analysis: Analysis, eigen_smooth: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The decision's heat map (H, W) of each layer, and the logit that the map's own forward gave.

    Raises:
        RuntimeError: that is not the logit by which the method decided, so that the map explains something else.
    """
    from ffaa.reporting.heatmaps import heat_maps

    plain: Explanation = method.explain(request, analysis)
    seen: list[float] = []

    def target(row: Tensor) -> Tensor:
        value = plain.target(row)
        seen.append(float(value.detach()))
        return value

    watched = Watched(plain.module, plain.pixel_values, plain.layers, target, plain.shown)
    maps: dict[str, np.ndarray] = dict(heat_maps(watched, request.image.size, eigen_smooth))
    decided = deciding_logit(analysis, chosen_row(analysis, analysis.chosen))
    if len(seen) != len(maps) or not all(abs(value - decided) <= SAME_LOGIT for value in seen):
        raise RuntimeError(f"{request.id}: maps of the logits {seen}, but {decided} decided")
    return maps, dict(zip(maps, seen, strict=True))


def edit_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """What was edited by half or more, bool (H, W) at the picture's ``size`` (width, height)."""
    return np.asarray(cv2.resize(open_mask(path), size, interpolation=cv2.INTER_LINEAR) >= 0.5)


def face_oval(locator: FaceLocator, image: Image.Image) -> np.ndarray:
    """The hull of the landmarks, bool (H, W); empty where no face is found."""
    pixels = np.array(image)
    try:
        points = locator.locate(pixels, id="", person="").points
    except NoFaceError:
        return np.zeros(pixels.shape[:2], bool)
    return face_mask(points, *pixels.shape[:2]) > 0


class Meter:
    """Measures pictures by the method that the options name."""

    def __init__(self, options: Options) -> None:
        from ffaa.evaluation.answer_cache import AnswerCache
        from ffaa.evaluation.cached_method import CachedMethod
        from ffaa.forge.faces import FaceLocator
        from ffaa.methods import load_method
        from ffaa.methods.base import Explains, Generates

        told = {key: getattr(options, key) for key in ("checkpoint", "seed", "device", "dtype")}
        method = load_method("ffaa", model_dir=model_folder("ffaa", options.model), **told)
        assert isinstance(method, Generates) and isinstance(method, Explains)
        self.options, self.method, self.explains = options, method, method
        self.locator = FaceLocator()
        self.cached = CachedMethod(method, AnswerCache(method.written_by)) if options.cache else None

    def measure_all(self, lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
        """All values of each picture, JSON-ready. Its answers are written once, or are those that were kept."""
        folder, size = self.options.folder, self.options.block_size
        for block in (lines[start : start + size] for start in range(0, len(lines), size)):
            images = [open_image(inside(folder, line["image"])) for line in block]
            # The name with its suffix is a benchmark's id of the picture, by which its free question is chosen.
            requests = [Request(image, Path(line["image"]).name) for image, line in zip(images, block, strict=True)]
            asked = self.method.questions(requests)
            texts = self.cached.answer(requests) if self.cached else self.method.write(requests, asked)
            for line, request, answers in zip(block, requests, texts, strict=True):
                yield self._measure(line, request, answers)

    def _measure(self, line: Line, request: Request, texts: Sequence[GeneratedText]) -> dict[str, Any]:
        (analysis,) = self.method.judge([request], [texts])
        if analysis.nonsense:
            raise InputError(f"{request.id}: {analysis.nonsense}")
        maps, logits = maps_of_decision(self.explains, request, analysis, self.options.eigen_smooth)
        mask = edit_mask(inside(self.options.folder, line["mask"]), request.image.size)
        oval = face_oval(self.locator, request.image)
        others = {"picture": np.ones(mask.shape), "centre": centre_gaussian(mask.shape), "face": oval.astype(float)}
        squares = {layer: deletion_squares(heat, oval, self.options.region) for layer, heat in maps.items()}
        drawn = {**maps, "centre": others["centre"], "face": others["face"]}
        return {
            "id": request.id,
            "region": line["regions"][0],
            "operation": line["artefacts"].get("operation"),
            "verdict": analysis.verdict.value,
            "score": analysis.score,
            "logits": logits,
            "mask_share": float(mask.mean()),
            "maps": {name: localisation(heat, mask) for name, heat in {**maps, **others}.items()},
            "deletion": {layer: self._deletion(request, texts, analysis, of) for layer, of in squares.items() if of},
            "curves": self._curves(request, texts, analysis, drawn) if self.options.curve_steps else {},
        }

    def _curves(
        self, request: Request, texts: Sequence[GeneratedText], before: Analysis, maps: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, Any]]:
        """Deletion and insertion by each map, of the probability that the chosen answer is right."""

        def judge(images: Sequence[Image.Image]) -> list[float]:
            judged = self.method.judge([Request(image, request.id) for image in images], [texts] * len(images))
            return [sigmoid(deciding_logit(before, chosen_row(one, before.chosen))) for one in judged]

        steps, blur = self.options.curve_steps, self.options.blur
        return deletion_insertion(request.image, maps, judge, steps=steps, blur=blur)

    def _deletion(
        self,
        request: Request,
        texts: Sequence[GeneratedText],
        before: Analysis,
        squares: Mapping[str, Square],
    ) -> dict[str, Any]:
        """What blurring each square does to the judgement of the answers as they stand."""
        images = [blurred(request.image, square, self.options.blur) for square in squares.values()]
        judged = self.method.judge([Request(image, request.id) for image in images], [texts] * len(images))
        pixels = np.array(request.image, np.float64)
        old = deciding_logit(before, chosen_row(before, before.chosen))
        return {
            name: {
                "square": [square.top, square.left, square.side],
                "score": abs(after.score - before.score),
                "logit": old - deciding_logit(before, chosen_row(after, before.chosen)),
                "pixels": float(np.abs(np.array(image, np.float64) - pixels)[square.pixels].mean()),
            }
            for (name, square), image, after in zip(squares.items(), images, judged, strict=True)
        }


def figures(pictures: Sequence[Line], layers: Sequence[str], seed: int) -> dict[str, Any]:
    """Means over pictures, and by layer the paired differences from what the layer's map is compared with."""

    def placed(name: str, figure: str) -> list[float | None]:
        return [picture["maps"][name][figure] for picture in pictures]

    def moved(layer: str, square: str, key: str) -> list[float | None]:
        found = [picture["deletion"].get(layer) for picture in pictures]
        return [of[square][key] if of else None for of in found]

    def placed_less(layer: str, name: str) -> dict[str, Any]:
        return {key: paired_difference(placed(layer, key), placed(name, key), seed=seed) for key in FIGURES}

    def moves(layer: str, key: str) -> dict[str, Any]:
        hot, cold, middle = (moved(layer, square, key) for square in ("hot", "cold", "middle"))
        return {
            **{"hot": mean_of(hot), "cold": mean_of(cold), "middle": mean_of(middle)},
            "hot_less_cold": paired_difference(hot, cold, seed=seed),
            "hot_less_middle": paired_difference(hot, middle, seed=seed),
        }

    def area(name: str, key: str) -> list[float | None]:
        return [picture.get("curves", {}).get(name, {}).get(key) for picture in pictures]

    return {
        "n": len(pictures),
        "curves": {name: {key: mean_of(area(name, key)) for key in AREAS} for name in (*layers, "centre", "face")},
        "maps": {name: {key: mean_of(placed(name, key)) for key in FIGURES} for name in (*layers, *BASELINES)},
        "differences": {layer: {name: placed_less(layer, name) for name in BASELINES} for layer in layers},
        "deletion": {layer: {key: moves(layer, key) for key in MOVES} for layer in layers},
    }


def groups_of(pictures: Sequence[Line]) -> dict[str, list[Line]]:
    """All pictures, those that the method calls fake (of the others, a map shows what looked real), and by region."""
    groups = {"all": list(pictures), FAKE: [x for x in pictures if x["verdict"] == Verdict.FAKE]}
    for region in sorted({picture["region"] for picture in pictures}):
        groups[region] = [picture for picture in pictures if picture["region"] == region]
    return groups


def number(value: float | None, scale: float, sign: str = "") -> str:
    """In points of a hundred (``scale`` 100) or as it is."""
    return "-" if value is None else f"{scale * value:{sign}.{1 if scale > 1 else 2}f}"


def difference(found: Mapping[str, Any], scale: float) -> str:
    shown, bounds = number(found["difference"], scale, "+"), found["difference_interval"]
    return f"{shown} [{', '.join(number(bound, scale, '+') for bound in bounds)}]" if bounds else shown


def table_of(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def localisation_table(title: str, found: Mapping[str, Any]) -> Table:
    """A row per map, in %; for the method's own, how much more of their energy is inside than of the others'."""
    table = table_of(title, ["map", *FIGURES.values(), *(f"energy less\n{name}" for name in BASELINES.values())])
    for name, means in found["maps"].items():
        less = [difference(of["energy"], 100) for of in found["differences"].get(name, {}).values()]
        table.add_row(BASELINES.get(name, name), *(number(means[key], 100) for key in FIGURES), *less)
    return table


def deletion_table(title: str, found: Mapping[str, Any]) -> Table:
    """A row per layer and measure."""
    table = table_of(title, ["blurred", "n", "measure", "hot", "cold", "middle", "hot less cold", "hot less middle"])
    for layer, measures in found["deletion"].items():
        for key, (name, scale) in MOVES.items():
            of = measures[key]
            means = [number(of[square], scale) for square in ("hot", "cold", "middle")]
            less = [difference(of[f"hot_less_{square}"], scale) for square in ("cold", "middle")]
            table.add_row(layer, str(of["hot_less_cold"]["n"]), name, *means, *less)
    return table


def report(name: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the tables of all pictures and of those called fake, and the energy inside by edited region."""
    console = make_console()
    for group, found in groups.items():
        title = f"{name}, {group}: {found['n']} forged pictures with one edited region"
        if group in ("all", FAKE) and found["n"]:
            console.print(localisation_table(title, found))
            console.print(deletion_table(f"{name}, {group}: one square blurred", found))
            for key, areas in found["curves"].items():
                deletion, insertion = (number(areas[area], 1) for area in AREAS)
                if insertion != "-":
                    console.print(f"area under deletion {deletion}, insertion {insertion}: {BASELINES.get(key, key)}")
            console.print()
    for group, found in groups.items():
        if group not in ("all", FAKE):
            energy = (f"{BASELINES.get(key, key)} {number(of['energy'], 100)}" for key, of in found["maps"].items())
            console.print(f"energy inside, {group} ({found['n']}): {', '.join(energy)}", markup=False)


def main() -> int:
    options = parse(Options, prog="measure_heatmaps.py", description=__doc__ or "")
    lines = edited_pictures(options)
    seed_everything(options.seed)
    meter = Meter(options)
    pictures = list(tqdm(meter.measure_all(lines), total=len(lines), desc="heat maps", unit=" pictures"))
    layers = list(pictures[0]["logits"])
    groups = {group: figures(members, layers, options.seed) for group, members in groups_of(pictures).items()}
    name = options.folder.resolve().name
    out = options.out or PROJECT_ROOT / "results" / "heatmaps" / f"{name}.json"
    kept = {key: getattr(options, key) for key in ("model", "seed", "limit", "eigen_smooth", "region", "blur")}
    settings = {"benchmark": name, **kept, "fingerprint": to_plain(meter.method.fingerprint)}
    result = {"settings": settings, "layers": layers, "figures": groups, "pictures": pictures}
    atomic_write_text(out, json.dumps(result, indent=1, allow_nan=False) + "\n")
    report(name, groups)
    print(f"saved in {out}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
