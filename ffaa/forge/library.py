"""The faces that forgeries are made from, each with box, landmarks and person, by the name of their asset."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ffaa.assets import fetch
from ffaa.data.faces import NoFaceError
from ffaa.data.images import open_image
from ffaa.forge.faces import FaceLocator, Pixels, SourceFace
from ffaa.types import InputError

log = logging.getLogger(__name__)

PEOPLE = Path(__file__).parent / "celeba_people.json"
"""CelebA picture -> person: clusters of SFace embeddings at cosine 0.42, made by scripts/data/find_same_people.py."""

_WORKING_SIDE = 640
"""Larger photographs are brought to this longer side first; faces are never needed at more than some 300 pixels."""


@cache
def celeba_people() -> Mapping[str, str]:
    """Picture name (``000001``) -> person."""
    people: Mapping[str, str] = json.loads(PEOPLE.read_text())
    return people


def _celeba() -> Iterator[tuple[str, str, Pixels]]:
    folder = fetch("celeba_faces")
    for name, person in celeba_people().items():
        yield f"celeba/{name}", person, np.asarray(open_image(folder / f"{name}.jpg"))


def _orl() -> Iterator[tuple[str, str, Pixels]]:
    for folder in sorted(fetch("orl_faces").glob("s*"), key=lambda path: int(path.name[1:])):
        for path in sorted(folder.glob("*.pgm"), key=lambda path: int(path.stem)):
            yield f"orl/{folder.name}/{path.stem}", f"orl-{folder.name}", np.asarray(open_image(path))


def _openpeople() -> Iterator[tuple[str, str, Pixels]]:
    """Portraits and selfies whole, the sheet of 16 expressions cut into its framed panels."""
    for folder in sorted(fetch("openpeople").glob("P*")):
        person = f"openpeople-{folder.name}"
        for path in sorted((folder / "assets").glob("*.jpg")):
            name = f"openpeople/{folder.name}/{path.stem}"
            if path.stem.endswith(("studio_portrait", "amateur_selfie")):
                yield name, person, _reduced(np.asarray(open_image(path)))
            elif path.stem.endswith("emotions_sheet"):
                for number, panel in enumerate(_panels(np.asarray(open_image(path)))):
                    yield f"{name}/{number}", person, panel


_SOURCES: Mapping[str, Callable[[], Iterator[tuple[str, str, Pixels]]]] = {
    "celeba_faces": _celeba,
    "orl_faces": _orl,
    "openpeople": _openpeople,
}


def load_faces(asset: str, *, workers: int = 2) -> list[SourceFace]:
    """Every picture of an asset that shows a face, in a fixed order. The others are left out, counted in the log.

    Raises:
        InputError: not an asset of faces, or the asset cannot be had.
    """
    if asset not in _SOURCES:
        raise InputError(f"'{asset}' holds no photographs of faces; those that do: {', '.join(_SOURCES)}")
    pictures = list(_SOURCES[asset]())
    with worker_pool(workers) as pool:
        found = list(pool.map(_locate, pictures, chunksize=16))
    faces = [face for face in found if face is not None]
    log.info("%s: %d of %d pictures show a face", asset, len(faces), len(pictures))
    return faces


def locate_all(pictures: list[Pixels], *, person: str) -> list[SourceFace]:
    """Faces of pictures that are no asset's photographs (a generator's); those without a face are left out."""
    found = [_locate((f"{person}/{index}", f"{person}/{index}", pixels)) for index, pixels in enumerate(pictures)]
    return [face for face in found if face is not None]


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Single-threaded processes, started afresh: forking one in which OpenCV or torch has threads can hang."""
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@cache
def _locator() -> FaceLocator:
    return FaceLocator()


def _locate(picture: tuple[str, str, Pixels]) -> SourceFace | None:
    name, person, pixels = picture
    try:
        face = _locator().locate(pixels, id=name, person=person)
    except NoFaceError:
        return None
    square = max(face.box.width, face.box.height)
    # A landmark net that lost the face puts its points far outside the detector's box.
    low, high = face.points.min(0), face.points.max(0)
    beside = low[0] < face.box.left - square / 2 or high[0] > face.box.right + square / 2
    return None if beside or (high - low).max() > 1.6 * square else face


def _panels(sheet: Pixels) -> list[Pixels]:
    """The pictures inside the white frames of a sheet, without frame and caption, row by row."""
    height, width = sheet.shape[:2]
    dark = (sheet.min(axis=2) < 225).astype(np.uint8)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    framed = [
        (int(left), int(top), int(wide), int(tall))
        for left, top, wide, tall, _ in boxes[1:]
        if 0.15 * width < wide < 0.3 * width and 0.12 * height < tall < 0.3 * height
    ]
    inset = round(0.004 * width)  # the frame's own soft edge
    return [
        np.ascontiguousarray(sheet[top + inset : top + tall - inset, left + inset : left + wide - inset])
        for left, top, wide, tall in sorted(framed, key=lambda box: (round(box[1] / (0.1 * height)), box[0]))
    ]


def _reduced(pixels: Pixels) -> Pixels:
    scale = _WORKING_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
