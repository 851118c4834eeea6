"""Faces to forge: the sample photographs with their landmarks, and a worker pool that stays in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffaa.data.images import open_image
from ffaa.forge import recipe
from ffaa.forge.explain import Wording
from ffaa.forge.faces import FaceLocator, SourceFace
from ffaa.forge.facts import Terciles
from ffaa.forge.forgery import Kind
from ffaa.forge.regions import EDITABLE

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"
PEOPLE = {"orl_s01_1.png": "orl-s1", "orl_s08_1.png": "orl-s8", "openpeople_p007.jpg": "openpeople-P007"}


@pytest.fixture(scope="session")
def faces() -> dict[str, SourceFace]:
    """The sample pictures by person."""
    locator = FaceLocator()
    return {
        person: locator.locate(np.asarray(open_image(SAMPLES / name)), id=name, person=person)
        for name, person in PEOPLE.items()
    }


@pytest.fixture(scope="session")
def grey_face(faces: dict[str, SourceFace]) -> SourceFace:
    return faces["orl-s1"]


@pytest.fixture(scope="session")
def other_grey_face(faces: dict[str, SourceFace]) -> SourceFace:
    return faces["orl-s8"]


@pytest.fixture(scope="session")
def colour_face(faces: dict[str, SourceFace]) -> SourceFace:
    return faces["openpeople-P007"]


@pytest.fixture(params=["orl-s1", "openpeople-P007"])
def face(request: pytest.FixtureRequest, faces: dict[str, SourceFace]) -> SourceFace:
    """A small grey and a larger coloured picture in turn."""
    return faces[request.param]


@pytest.fixture(scope="session")
def wording() -> Wording:
    terciles = Terciles(
        brightness=(100.0, 130.0),
        sharpness=(40.0, 70.0),
        background=(75.0, 140.0),
        sharpness_ratio=(0.7, 1.1),
        tone_difference=(13.0, 23.0),
    )
    slots = [kind.value for kind in Kind if kind not in (Kind.LOCAL, Kind.EXPRESSION)]
    slots += [f"local/{region}" for region in EDITABLE]
    return Wording(terciles, {slot: round(0.5 + 0.01 * index, 2) for index, slot in enumerate(slots)})


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pictures without starting processes."""

    class Pool:
        def map(self, work: Callable[[Any], Any], jobs: Iterable[Any], chunksize: int) -> Iterator[Any]:
            return map(work, jobs)

    @contextmanager
    def pool(workers: int) -> Iterator[Pool]:
        yield Pool()

    monkeypatch.setattr(recipe, "worker_pool", pool)
