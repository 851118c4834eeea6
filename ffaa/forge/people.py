"""Which people a split may draw from. Every person is in exactly one share of an asset, so no split shares one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ffaa.forge.faces import SourceFace
from ffaa.types import InputError

_CELEBA_TARGETS: Mapping[str, int] = {"test": 120, "mids": 150, "validation": 60}
"""Pictures a share takes at least, in this order; the rest is ``training``."""
_ORL_FREE = 24
"""ORL people s1..s24 make the ``free`` benchmarks, the others ``mini_orl``. None is trained on."""
_OPENPEOPLE: Mapping[str, str] = {
    **{f"openpeople-P{i:03d}": "training" for i in range(1, 5)},
    "openpeople-P005": "mids",
    **{f"openpeople-P{i:03d}": "test" for i in range(6, 11)},
}


def share_of_people(faces: Sequence[SourceFace], asset: str, share: str) -> list[SourceFace]:
    """The faces of one share of an asset's people, in their order.

    Raises:
        InputError: the asset has no such share.
    """
    shares = _SHARES[asset](faces)
    chosen = [face for face in faces if shares[face.person] == share]
    if not chosen:
        raise InputError(f"{asset} has no share '{share}'; it has {', '.join(sorted(set(shares.values())))}")
    return chosen


def _celeba(faces: Sequence[SourceFace]) -> dict[str, str]:
    pictures: dict[str, int] = {}
    for face in faces:
        pictures[face.person] = pictures.get(face.person, 0) + 1
    people = sorted(pictures)
    random.Random(0).shuffle(people)
    shares: dict[str, str] = {}
    taken = dict.fromkeys(_CELEBA_TARGETS, 0)
    for person in people:
        share = next((name for name, target in _CELEBA_TARGETS.items() if taken[name] < target), "training")
        shares[person] = share
        if share in taken:
            taken[share] += pictures[person]
    return shares


def _orl(faces: Sequence[SourceFace]) -> dict[str, str]:
    return {face.person: "free" if int(face.person.removeprefix("orl-s")) <= _ORL_FREE else "held" for face in faces}


def _openpeople(faces: Sequence[SourceFace]) -> dict[str, str]:
    return {face.person: _OPENPEOPLE[face.person] for face in faces}


_SHARES = {"celeba_faces": _celeba, "orl_faces": _orl, "openpeople": _openpeople}
