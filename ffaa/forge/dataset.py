"""Sets of pictures on disk: a benchmark of the published layout, or a training set with records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from ffaa.config import yaml_text
from ffaa.data.benchmark import write_benchmark
from ffaa.forge.forgery import FORGERY_TYPES, Kind
from ffaa.forge.recipe import Picture, Recipe
from ffaa.runtime import config_hash, locked, to_plain
from ffaa.types import InputError

PICTURES = "pictures.jsonl"
"""File of a set that holds everything known of each picture, one JSON line each."""
RECIPE = "recipe.yaml"
"""File of a set that says how its pictures were made; its first line is a hash of that."""

_MASK_SIDE = 56


@dataclass(frozen=True)
class Split:
    """One named set of pictures."""

    recipe: Recipe
    types: bool = False
    """Write the two-part labels ``[label, forgery type]``."""


@dataclass(frozen=True)
class RecipeBook:
    """A YAML file of recipes by name."""

    splits: dict[str, Split] = field(default_factory=dict)


def recipe_text(split: Split) -> str:
    """What a set's ``recipe.yaml`` holds."""
    return _stamp(split) + yaml_text(split)


def is_of_recipe(folder: Path, split: Split) -> bool:
    """Whether a set's ``recipe.yaml`` is there and of this recipe."""
    file = folder / RECIPE
    return file.is_file() and file.read_text(errors="replace").startswith(_stamp(split))


def _stamp(split: Split) -> str:
    return f"# {config_hash(to_plain(split))}\n"


def write_pictures(
    pictures: Iterable[Picture],
    folder: Path,
    *,
    recipe: str | None = None,
    on_each: Callable[[], object] = lambda: None,
) -> None:
    """Write ``imgs/``, ``masks/`` (small, grey) and ``pictures.jsonl`` into a new folder, whole or not at all.

    With ``recipe``, the text of `recipe_text`, also ``recipe.yaml``. ``on_each`` is called after every picture; what it
    returns is ignored.

    Raises:
        InputError: the folder holds something that was not built here, which is left alone; another process builds it.
    """
    partial = folder.with_name(folder.name + ".partial")
    for place, mark in ((folder, PICTURES), (partial, "imgs")):
        if place.exists() and not (place / mark).exists() and (not place.is_dir() or any(place.iterdir())):
            raise InputError(f"{place} holds something else than a built set: give another folder, or empty it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent, f".{folder.name}.lock"):
        shutil.rmtree(partial, ignore_errors=True)
        _write_all(pictures, partial, on_each)
        if recipe is not None:
            (partial / RECIPE).write_text(recipe)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _write_all(pictures: Iterable[Picture], folder: Path, on_each: Callable[[], object]) -> None:
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    with (folder / PICTURES).open("w") as lines:
        for picture in pictures:
            facts = picture_facts(picture)
            (folder / facts["image"]).write_bytes(picture.shot.jpeg)
            if facts["mask"]:
                small = cv2.resize(picture.shot.mask, (_MASK_SIDE, _MASK_SIDE), interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(folder / facts["mask"]), (small * 255).round().astype("uint8"))
            lines.write(json.dumps(facts) + "\n")
            on_each()


def picture_facts(picture: Picture) -> dict[str, Any]:
    """The line of ``pictures.jsonl``: paths, label, people, what was done, what was measured."""
    stem = f"{picture.index:05d}"
    real = picture.kind is Kind.REAL
    return {
        "id": stem,
        "image": f"imgs/{stem}.jpg",
        "mask": None if real else f"masks/{stem}.png",
        "kind": picture.kind.value,
        "label": "real" if real else "fake",
        "forgery_type": FORGERY_TYPES[picture.kind],
        "person": picture.source.person,
        "source": picture.source.id,
        "donor": picture.donor,
        "regions": list(picture.regions),
        "artefacts": dict(picture.artefacts),
        "facts": picture.facts.to_json(),
    }


def read_pictures(folder: Path) -> list[dict[str, Any]]:
    """The lines of a set's ``pictures.jsonl``.

    Raises:
        InputError: the folder holds no such file, or a damaged one.
    """
    path = folder / PICTURES
    if not path.is_file():
        raise InputError(f"{folder} holds no {PICTURES}: it was not built yet")
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): remove its folder and build it again") from error


def label_benchmark(folder: Path, split: Split) -> None:
    """Write ``<name>.json`` of the published layout beside a built set's pictures, and whose they are as groups."""
    lines = {Path(line["image"]).name: line for line in read_pictures(folder)}
    labels: Mapping[str, Any] = {
        name: [line["label"], line["forgery_type"]] if split.types else line["label"] for name, line in lines.items()
    }
    write_benchmark(folder, labels, {name: line["person"] for name, line in lines.items()})
