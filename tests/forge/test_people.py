"""No person stands on two sides of a split."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ffaa.forge.faces import SourceFace
from ffaa.forge.library import celeba_people
from ffaa.forge.people import share_of_people
from ffaa.types import Box, InputError


def _faces(people: list[tuple[str, str]]) -> list[SourceFace]:
    """Pictures in name only."""
    nothing = np.zeros((1, 1, 3), np.uint8)
    return [SourceFace(id, person, nothing, Box(0, 0, 1, 1), np.zeros((68, 2), np.float32)) for id, person in people]


CELEBA = _faces([(f"celeba/{name}", person) for name, person in celeba_people().items()])
ORL = _faces([(f"orl/s{s}/{i}", f"orl-s{s}") for s in range(1, 41) for i in range(1, 11)])
OPENPEOPLE = _faces([(f"openpeople/P{p:03d}/{i}", f"openpeople-P{p:03d}") for p in range(1, 11) for i in range(3)])
SHARES = {
    "celeba_faces": (CELEBA, ("training", "mids", "validation", "test")),
    "orl_faces": (ORL, ("free", "held")),
    "openpeople": (OPENPEOPLE, ("training", "mids", "test")),
}


@pytest.mark.parametrize("asset", SHARES)
def test_every_picture_is_in_one_share_and_no_person_in_two(asset: str) -> None:
    faces, names = SHARES[asset]
    shares = {name: share_of_people(faces, asset, name) for name in names}
    assert sorted(face.id for share in shares.values() for face in share) == sorted(face.id for face in faces)
    for first, second in combinations(names, 2):
        assert not {face.person for face in shares[first]} & {face.person for face in shares[second]}


def test_the_committed_list_groups_pictures_of_one_person() -> None:
    people = celeba_people()
    assert len(people) > 900 and all(len(name) == 6 and name.isdigit() for name in people)
    of_person = Counter(people.values())
    assert 800 < len(of_person) < len(people) and max(of_person.values()) >= 5
    assert all(people[person.removeprefix("celeba-")] == person for person in of_person), "named by one of theirs"


def test_shares_of_celeba_hold_the_stated_number_of_pictures() -> None:
    for share, target in {"test": 120, "mids": 150, "validation": 60}.items():
        assert target <= len(share_of_people(CELEBA, "celeba_faces", share)) < target + 10
    assert len(share_of_people(CELEBA, "celeba_faces", "training")) > 600


def test_shares_depend_on_the_people_and_not_on_the_order_of_pictures() -> None:
    backwards = {face.id for face in share_of_people(CELEBA[::-1], "celeba_faces", "test")}
    assert backwards == {face.id for face in share_of_people(CELEBA, "celeba_faces", "test")}


def test_an_unknown_share_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="orl_faces has no share 'test'; it has free, held"):
        share_of_people(ORL, "orl_faces", "test")


def test_the_list_is_part_of_the_package() -> None:
    from ffaa.forge import library

    assert Path(library.__file__).parent == library.PEOPLE.parent and library.PEOPLE.is_file()
