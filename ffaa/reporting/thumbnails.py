"""Small pictures for a page: what was analysed, its heat maps and the mask of the edit, in the page or beside it.

Thumbnails in the page are made as large as their number leaves room for. Needs no torch.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from ffaa.data.images import inside, open_image
from ffaa.runtime import make_folder
from ffaa.types import InputError

PICTURE, MASK, HEAT = "picture", "mask", "heat"
"""Kinds of thumbnails."""

ROOM = 42 * 2**20
"""Bytes of thumbnails that a page may hold; base64 makes 56 MiB of them, and answers and page stay below 4."""
SIDES = (320, 256, 192, 160, 128, 96, 72)
"""Longer side of a thumbnail in pixels, the greatest that fits is taken."""
SIDE_BESIDE = 384
"""Longer side where thumbnails are files."""

_QUALITY = {PICTURE: 74, HEAT: 58, MASK: 50}
_SHARE_OF_SIDE = {PICTURE: 1.0, HEAT: 0.75, MASK: 0.4}
"""Heat maps and masks are smooth and lose nothing by it."""
_SAMPLE = 48


@dataclass(frozen=True)
class Source:
    """A file to be shown; ``kind`` is one of `PICTURE`, `MASK`, `HEAT`."""

    path: Path
    kind: str = PICTURE


@dataclass
class Thumbnails:
    """Thumbnails by key, each source once.

    ``places`` maps a key to a data URI, or to a URL relative to the page. ``failed`` maps sources that cannot be
    opened to the reason.
    """

    places: dict[str, str] = field(default_factory=dict)
    keys: dict[Source, str] = field(default_factory=dict)
    failed: dict[Source, str] = field(default_factory=dict)
    side: int = 0

    def key(self, source: Source | None) -> str | None:
        """The key of a source, None where it has no thumbnail."""
        return None if source is None else self.keys.get(source)


def picture_of(folder: Path, name: str) -> Source | None:
    """The picture ``name`` of the benchmark in ``folder``; None where it is not there or not below ``imgs/``."""
    return _existing(folder / "imgs", name, PICTURE)


def mask_of(folder: Path, name: str) -> Source | None:
    """The mask of a picture's edit, ``masks/<stem>.png``; None where there is none."""
    return _existing(folder / "masks", f"{Path(name).with_suffix('')}.png", MASK)


def heat_maps_of(folder: Path, name: str) -> list[Source]:
    """The heat maps ``<stem>_heat1.png``, ``_heat2.png``, ... in ``folder``, as inference writes them."""
    found = []
    for number in range(1, 10):
        source = _existing(folder, f"{Path(name).stem}_heat{number}.png", HEAT)
        if source is None:
            break
        found.append(source)
    return found


def _existing(folder: Path, name: str, kind: str) -> Source | None:
    try:
        path = inside(folder, name)
    except InputError:
        return None
    return Source(path, kind) if path.is_file() else None


def make_thumbnails(sources: Iterable[Source], assets: Path | None, page: Path) -> Thumbnails:
    """Thumbnails of all sources.

    Args:
        sources: what to show; one that cannot be opened is in ``failed``.
        assets: folder for them; None: they are in the page.
        page: the page's file, to which paths are relative.

    Raises:
        InputError: they do not fit in a page; the folder cannot be made, or lies where the page cannot name it.
    """
    wanted = list(dict.fromkeys(sources))
    if assets is not None:
        return _beside(wanted, assets, page)
    for side in _fitting_sides(wanted):
        made, failed = _encode(wanted, side)
        if sum(map(len, made.values())) <= ROOM:
            keys = {source: f"i{number}" for number, source in enumerate(made)}
            places = {keys[source]: _uri(data) for source, data in made.items()}
            return Thumbnails(places, keys, failed, side)
    raise InputError(
        f"{len(wanted)} pictures, masks and heat maps do not fit in one page of 60 MB; "
        "--assets_dir DIR writes them beside it"
    )


def below_page(assets: Path, page: Path) -> Path:
    """The folder of thumbnails relative to the page's; nothing is made.

    Raises:
        InputError: it lies where the page cannot name it.
    """
    try:
        return assets.resolve().relative_to(page.resolve().parent)
    except ValueError:
        raise InputError(f"--assets_dir {assets} must lie in the page's folder {page.resolve().parent}") from None


def _beside(wanted: Sequence[Source], assets: Path, page: Path) -> Thumbnails:
    relative = below_page(assets, page)
    make_folder(assets)
    result = Thumbnails(side=SIDE_BESIDE)
    for number, (source, data) in enumerate(_thumbs(wanted, SIDE_BESIDE, result.failed)):
        # Named by what it holds, so that pages that share a folder keep their own pictures.
        name = f"{hashlib.sha256(data).hexdigest()[:20]}.webp"
        (assets / name).write_bytes(data)
        result.keys[source] = f"i{number}"
        result.places[f"i{number}"] = quote(os.fsencode(relative / name))
    return result


def _fitting_sides(wanted: Sequence[Source]) -> list[int]:
    """The sides from the greatest on that a sample says may fit."""
    step = max(1, len(wanted) // _SAMPLE)
    sample = wanted[::step]
    for place, side in enumerate(SIDES):
        made, _ = _encode(sample, side)
        if sum(map(len, made.values())) * len(wanted) <= ROOM * max(len(sample), 1):
            return list(SIDES[place:])
    return []


def _encode(sources: Sequence[Source], side: int) -> tuple[dict[Source, bytes], dict[Source, str]]:
    failed: dict[Source, str] = {}
    return dict(_thumbs(sources, side, failed)), failed


def _thumbs(sources: Sequence[Source], side: int, failed: dict[Source, str]) -> Iterable[tuple[Source, bytes]]:
    # Decoders and encoders leave the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        for source, data in zip(sources, pool.map(functools.partial(_thumb, side=side), sources), strict=True):
            if isinstance(data, bytes):
                yield source, data
            else:
                failed[source] = data


def _thumb(source: Source, side: int) -> bytes | str:
    """WebP of at most ``side`` pixels, or why there is none."""
    try:
        image = open_image(source.path)
    except InputError as error:
        return str(error)
    longest = max(1, round(side * _SHARE_OF_SIDE[source.kind]))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    data = io.BytesIO()
    (image.convert("L") if source.kind == MASK else image).save(data, "WEBP", quality=_QUALITY[source.kind], method=3)
    return data.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
