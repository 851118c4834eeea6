from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from ffaa.config import CONFIGS, load_yaml
from ffaa.dialogue.answers import parse
from ffaa.forge.claims import FACTS, read_claims, true_claims
from ffaa.forge.explain import Wording
from ffaa.forge.facts import Facts
from ffaa.types import InputError, Record
from scripts.data.borrow_answers import borrowed

WORDING = load_yaml(CONFIGS / "forge" / "wording.yaml", Wording)
EDITS: list[tuple[str, list[str], dict[str, str]]] = [
    ("real", [], {}),
    ("local", ["nose"], {"operation": "blurred"}),
    ("swap", ["face"], {"edge": "wide", "extent": "brows"}),
]


def pictures(count: int) -> dict[str, dict[str, Any]]:
    made = {}
    for index in range(count):
        kind, regions, artefacts = EDITS[index % len(EDITS)]
        facts = Facts(20.0 * (index % 10), 50.0, 20.0 * (index % 7), 80.0, 0.1 * (index % 5), 0.1, 0.8, 20.0)
        label = "real" if kind == "real" else "fake"
        made[str(index)] = {
            "id": str(index),
            "kind": kind,
            "regions": regions,
            "artefacts": artefacts,
            "facts": asdict(facts),
            "label": label,
        }
    return made


def records(known: dict[str, dict[str, Any]]) -> list[Record]:
    return [Record(id, f"imgs/{id}.jpg", picture["label"]) for id, picture in known.items()]


def test_each_picture_has_the_truth_its_opposite_and_another() -> None:
    known = pictures(300)
    made = borrowed(records(known), known, WORDING, seed=0)
    places: Counter[int] = Counter()
    for record in made:
        truth = true_claims(known[record.id], WORDING)
        claims = [read_claims(answer["content"]) for answer in record.answers]
        # What was measured is the picture's own in all three: nothing but the edit tells them apart.
        assert all(claim[slot] == truth[slot] for claim in claims for slot in FACTS)
        assert any(claim == truth for claim in claims)
        results = [answer["result"] for answer in record.answers]
        assert set(results) == {"real", "fake"}
        assert results == [parse(answer["content"]).verdict.value for answer in record.answers]
        assert [answer["label"] for answer in record.answers] == [
            2 * (record.label == "fake") + (result == "fake") for result in results
        ]
        places[next(i for i, claim in enumerate(claims) if claim == truth)] += 1
    assert min(places.values()) > 40
    # The verdict alone says nothing about the picture.
    said_fake = [sum(answer["result"] == "fake" for answer in record.answers) for record in made]
    assert abs(sum(said_fake) / len(made) - 1.5) < 0.35


def test_the_same_seed_borrows_the_same() -> None:
    known = pictures(12)
    first, again, other = (borrowed(records(known), known, WORDING, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_what_cannot_be_borrowed_is_said() -> None:
    known = pictures(12)
    real = {id: picture for id, picture in known.items() if picture["label"] == "real"}
    with pytest.raises(InputError, match="one of the two is not there"):
        borrowed(records(real), real, WORDING, 0)
    with pytest.raises(InputError, match="record 'x' has no line in pictures.jsonl"):
        borrowed([Record("x", "x.jpg", "real")], known, WORDING, 0)
