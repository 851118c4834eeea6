"""A recipe says what a set of pictures is made of; :func:`make_pictures` makes it, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from ffaa.assets import fetch
from ffaa.forge.camera import Camera, Shot, shoot
from ffaa.forge.faces import Pixels, SourceFace
from ffaa.forge.facts import Facts, measure
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.library import load_faces, locate_all, worker_pool
from ffaa.forge.one_region import change_expression, edit_region
from ffaa.forge.people import share_of_people
from ffaa.forge.regions import EDITABLE
from ffaa.forge.synthesis import load_generator, synthesise
from ffaa.forge.whole_face import poisson_swap, self_blend, swap
from ffaa.types import InputError

_DONORS = 25
"""Candidates among which a swap's donor with the most similar face shape is chosen."""


@dataclass(frozen=True)
class Recipe:
    """One set of pictures."""

    faces: str
    """Asset of the photographs: celeba_faces or orl_faces."""
    people: str
    """Share of its people (ffaa.forge.people)."""
    counts: Mapping[str, int]
    """Pictures of each kind (ffaa.forge.forgery.Kind)."""
    synthetic: str = ""
    """Where entire-face synthesis comes from: openpeople or dcgan_faces."""
    synthetic_people: str = ""
    """Share of the synthetic people, for openpeople."""
    seed: int = 0
    """Seed of every draw."""
    strengths: Strengths = field(default_factory=Strengths)
    """How strong the forgeries are."""
    camera: Camera = field(default_factory=Camera)
    """The bottleneck, the same for real and forged."""


@dataclass(frozen=True)
class Picture:
    """A finished picture and everything known of it."""

    index: int
    kind: Kind
    source: SourceFace
    donor: str | None
    shot: Shot
    facts: Facts
    regions: tuple[str, ...]
    artefacts: Mapping[str, str]


@dataclass(frozen=True)
class _Job:
    index: int
    kind: Kind
    source: SourceFace
    donor: SourceFace | None
    region: str | None
    recipe: Recipe


def make_pictures(recipe: Recipe, *, workers: int = 2) -> Iterator[Picture]:
    """All pictures of a recipe, in an order that mixes the kinds, so that its first n are a fair sample.

    Raises:
        InputError: the recipe names an asset, a share or a kind that does not exist.
    """
    jobs = _plan(recipe)
    with worker_pool(workers) as pool:
        yield from pool.map(_make, jobs, chunksize=8)


def forge_photographs(recipe: Recipe) -> Iterator[tuple[Kind, SourceFace]]:
    """The whole photographs of a recipe with the forgery in its place, as they are before the camera.

    Raises:
        InputError: as :func:`make_pictures`.
    """
    for job in _plan(recipe):
        forgery = _forge(job, default_rng([recipe.seed, job.index]))
        yield job.kind, job.source if forgery is None else _with_pixels(job.source, forgery.pixels)


def _plan(recipe: Recipe) -> list[_Job]:
    rng = default_rng(recipe.seed)
    faces = _faces(recipe.faces, recipe.people)
    synthetic = _synthetic(recipe) if recipe.counts.get(Kind.SYNTHESIS) else []
    shapes = _shapes(faces)
    drawn: list[tuple[Kind, SourceFace, SourceFace | None, str | None]] = []
    for name, count in recipe.counts.items():
        if name not in set(Kind):
            raise InputError(f"no kind '{name}'; known: {', '.join(Kind)}")
        kind = Kind(name)
        for turn, index in enumerate(_cycle(len(synthetic if kind is Kind.SYNTHESIS else faces), count, rng)):
            if kind is Kind.SYNTHESIS:
                drawn.append((kind, synthetic[index], None, None))
                continue
            donor = _donor(index, faces, shapes, rng) if kind in (Kind.SWAP, Kind.POISSON) else None
            region = EDITABLE[turn % len(EDITABLE)] if kind is Kind.LOCAL else None
            drawn.append((kind, faces[index], donor, region))
    order = rng.permutation(len(drawn))
    jobs = (drawn[index] for index in order)
    return [_Job(at, kind, source, donor, region, recipe) for at, (kind, source, donor, region) in enumerate(jobs)]


def _make(job: _Job) -> Picture:
    rng = default_rng([job.recipe.seed, job.index])
    forgery = _forge(job, rng)
    face = job.source if forgery is None else _with_pixels(job.source, forgery.pixels)
    mask = np.ones(face.pixels.shape[:2], np.float32) if job.kind is Kind.SYNTHESIS else None
    shot = shoot(face, forgery.mask if forgery else mask, job.recipe.camera, rng)
    return Picture(
        index=job.index,
        kind=job.kind,
        source=job.source,
        donor=job.donor.id if job.donor else None,
        shot=shot,
        facts=measure(shot),
        regions=forgery.regions if forgery else (("face",) if job.kind is Kind.SYNTHESIS else ()),
        artefacts=forgery.artefacts if forgery else {},
    )


def _forge(job: _Job, rng: Generator) -> Forgery | None:
    strengths = job.recipe.strengths
    match job.kind:
        case Kind.BLEND:
            return self_blend(job.source, strengths, rng)
        case Kind.LOCAL:
            return edit_region(job.source, strengths, rng, region=job.region)
        case Kind.EXPRESSION:
            return change_expression(job.source, strengths, rng)
        case Kind.SWAP if job.donor is not None:
            return swap(job.donor, job.source, strengths, rng)
        case Kind.POISSON if job.donor is not None:
            return poisson_swap(job.donor, job.source, rng)
    return None


@cache
def _all_faces(asset: str) -> tuple[SourceFace, ...]:
    return tuple(load_faces(asset))


def _faces(asset: str, share: str) -> list[SourceFace]:
    return share_of_people(_all_faces(asset), asset, share)


def _synthetic(recipe: Recipe) -> list[SourceFace]:
    if recipe.synthetic == "openpeople":
        return _faces("openpeople", recipe.synthetic_people)
    if recipe.synthetic == "dcgan_faces":
        pictures = synthesise(load_generator(fetch("dcgan_faces")), recipe.seed, 2 * recipe.counts[Kind.SYNTHESIS])
        return locate_all([_enlarged(picture) for picture in pictures], person="dcgan")
    raise InputError(f"no synthetic faces '{recipe.synthetic}'; known: openpeople, dcgan_faces")


def _enlarged(pixels: Pixels) -> Pixels:
    """Three times as large: the detector wants more than 64 pixels; the camera scales down to the recipe's size."""
    side = 3 * pixels.shape[0]
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _with_pixels(face: SourceFace, pixels: Pixels) -> SourceFace:
    return SourceFace(face.id, face.person, pixels, face.box, face.points)


def _cycle(available: int, count: int, rng: Generator) -> list[int]:
    """``count`` indices, every one used as often as any other (to one)."""
    rounds = -(-count // available)
    return [int(i) for _ in range(rounds) for i in rng.permutation(available)][:count]


def _shapes(faces: Sequence[SourceFace]) -> np.ndarray:
    centred = np.stack([face.points - face.points.mean(0) for face in faces])
    normed: np.ndarray = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return normed


def _donor(target: int, faces: Sequence[SourceFace], shapes: np.ndarray, rng: Generator) -> SourceFace:
    """Another person of the same share, the nearest in face shape of some candidates."""
    candidates = [int(i) for i in rng.permutation(len(faces))[:_DONORS] if faces[i].person != faces[target].person]
    nearest = min(candidates, key=lambda i: float(np.linalg.norm(shapes[i] - shapes[target])))
    return faces[nearest]
