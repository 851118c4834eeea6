"""Benchmarks in the published layout: ``benchmark/<name>/imgs/`` and ``benchmark/<name>/<name>.json``.

The JSON file maps each picture's name to ``"real"`` or ``"fake"``, or to ``["real" | "fake", "<forgery type>"]``; which
of the two is told by the values themselves. No code is needed to add a benchmark.

Where pictures belong together, because they show one person or are frames of one video, an optional ``groups.json``
beside it maps pictures' names to the name of their group; pictures that it leaves out stand alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ffaa.config import read_json
from ffaa.data.images import inside
from ffaa.runtime import PROJECT_ROOT, atomic_write_text, closest
from ffaa.types import InputError

LABELS = ("real", "fake")
GROUPS_FILE = "groups.json"

ALIASES = {"ma": "multiattack", "multiattack": "ma"}
"""The Multi-attack set is called by either name in the published code and instructions."""


@dataclass(frozen=True)
class Item:
    """One picture. ``id`` is its key in the file; ``forgery_type`` is None for real ones and where none is given.

    ``group`` is the person or video that it belongs to, None where none is given.
    """

    id: str
    path: Path
    label: str
    forgery_type: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's pictures in the order of its JSON file; ``has_types`` where the file names forgery types."""

    name: str
    root: Path
    items: tuple[Item, ...]
    has_types: bool


def list_benchmarks(root: Path = PROJECT_ROOT / "benchmark") -> list[str]:
    """Names of the benchmarks in ``root``, sorted."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and _json_file(p) is not None)


def load_benchmark(name: str, root: Path = PROJECT_ROOT / "benchmark") -> Benchmark:
    """Read and check a benchmark by its name in ``root``, or by the path of its folder.

    Raises `InputError` for an unknown name (with the closest ones), a JSON file that is not such a mapping, is empty,
    names a picture twice or mixes the two forms, for a picture that is missing or outside ``imgs/``, and for a
    ``groups.json`` that is no mapping of its pictures to texts.
    """
    folder = _folder(name, root)
    file = _json_file(folder)
    if file is None:
        raise InputError(f"the benchmark {folder} has no {folder.name}.json")
    labels = _of_pictures(file)
    images = folder / "imgs"
    if not images.is_dir():
        raise InputError(f"the benchmark {folder} has no folder imgs/")
    has_types = isinstance(next(iter(labels.values())), list)
    items = tuple(_item(key, value, images, has_types, file) for key, value in labels.items())
    _refuse_other_spellings(items, file)
    if (folder / GROUPS_FILE).is_file():
        groups = read_groups(folder / GROUPS_FILE, {item.id for item in items})
        items = tuple(replace(item, group=groups.get(item.id)) for item in items)
    return Benchmark(folder.name, folder, items, has_types)


def read_groups(file: Path, pictures: Collection[str]) -> dict[str, str]:
    """Picture -> group (person or video) of a ``groups.json``.

    Raises `InputError` where it is no such mapping, or names a picture that is not one of ``pictures``.
    """
    groups = _of_pictures(file)
    for key, group in groups.items():
        if not isinstance(group, str) or not group.strip() or "\0" in group:
            raise InputError(f"{file}: {key!r}: the group must be a text, got {group!r}")
        if key not in pictures:
            raise InputError(f"{file}: there is no picture {key!r}")
    return groups


def write_benchmark(
    folder: Path, labels: Mapping[str, str | tuple[str, str | None]], groups: Mapping[str, str] | None = None
) -> Benchmark:
    """Write ``<folder>/<folder's name>.json`` for the pictures already in ``<folder>/imgs/``, and read it back.

    With ``groups``, picture -> person or video, also ``groups.json``; without, one that is there is removed.

    Labels as in `Item`: ``"real"``, or ``("fake", "Identity swap")`` and ``("real", None)``, written as "None" like
    the published answers do. Raises `InputError` as `load_benchmark` does, for a folder whose labels and groups would
    be one file, and for text that is no Unicode; then nothing has been written.
    """
    folder = folder.resolve()
    file = folder / f"{folder.name}.json"
    if file.name.casefold() == GROUPS_FILE:
        raise InputError(
            f"a benchmark cannot be called {folder.name!r}: {GROUPS_FILE} holds the groups of any benchmark"
        )
    if not labels:
        raise InputError(f"{file}: no pictures")
    plain: dict[str, Any] = {
        key: value if isinstance(value, str) else [value[0], value[1] or "None"] for key, value in labels.items()
    }
    has_types = isinstance(next(iter(plain.values())), list)
    items = tuple(_item(key, value, folder / "imgs", has_types, file) for key, value in plain.items())
    text, of_groups = _json_text(plain, file), _json_text(dict(groups or {}), folder / GROUPS_FILE)
    atomic_write_text(file, text)
    if groups:
        atomic_write_text(folder / GROUPS_FILE, of_groups)
        items = tuple(replace(item, group=groups.get(item.id)) for item in items)
    else:
        (folder / GROUPS_FILE).unlink(missing_ok=True)
    return Benchmark(folder.name, folder, items, has_types)


def _json_text(content: Mapping[str, Any], file: Path) -> str:
    text = json.dumps(content, indent=0, ensure_ascii=False) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.split("\n")[text.count("\n", 0, error.start)]
        raise InputError(f"{file}: {line!r} is no Unicode text and cannot be written") from error
    return text


def _folder(name: str, root: Path) -> Path:
    candidates = (
        [Path(name)] if os.sep in name or name in (".", "..") else [root / name, root / ALIASES.get(name, name)]
    )
    for folder in candidates:
        if name and folder.is_dir():
            return folder.resolve()
    known = list_benchmarks(root)
    there = f"there are: {', '.join(known)}" if known else f"there is none in {root}"
    raise InputError(f"unknown benchmark {name!r}{closest(name, known)} ({there})")


def _json_file(folder: Path) -> Path | None:
    names = [folder.name, ALIASES.get(folder.name, folder.name)]
    return next((file for name in names if (file := folder / f"{name}.json").is_file()), None)


def _of_pictures(file: Path) -> dict[str, Any]:
    """Picture -> what is said of it, each once and at least one."""
    found = read_json(file, unique=True)
    if not found:
        raise InputError(f"{file} names no pictures")
    return found


def _refuse_other_spellings(items: Sequence[Item], file: Path) -> None:
    """Raise `InputError` where two keys name one entry of the folder, such as ``a.png`` and ``./a.png``."""
    first: dict[PurePath, str] = {}
    for item in items:
        earlier = first.setdefault(PurePath(item.id), item.id)
        if earlier != item.id:
            raise InputError(f"{file}: {earlier!r} and {item.id!r} are the same picture")


def _item(key: str, value: Any, images: Path, has_types: bool, file: Path) -> Item:
    """One checked entry of the JSON file."""
    if isinstance(value, list) != has_types:
        raise InputError(f"{file}: {key!r}: some pictures have a forgery type and others have none")
    label, forgery_type = (value if len(value) == 2 else (value, None)) if has_types else (value, None)
    if not isinstance(label, str) or label not in LABELS:
        raise InputError(
            f'{file}: {key!r}: the label must be "real" or "fake" (or one of them and a type), got {value!r}'
        )
    if has_types and label == "fake":
        if not (isinstance(forgery_type, str) and forgery_type.strip()):
            raise InputError(f"{file}: {key!r}: the forgery type must be a text, got {forgery_type!r}")
        if forgery_type.strip().lower() == "none":
            raise InputError(f'{file}: {key!r}: a fake has a forgery type, "None" is for real pictures')
    try:
        path = inside(images, key)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if not path.is_file():
        raise InputError(f"{file}: the picture {key!r} is not in {images}")
    return Item(key, path, label, forgery_type.strip() if label == "fake" and forgery_type else None)
