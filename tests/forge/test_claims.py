"""Claims are read back from every answer that the forge can write."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from numpy.random import default_rng

from ffaa.config import CONFIGS, load_yaml
from ffaa.dialogue.answers import format_answer
from ffaa.forge.claims import FACTS, contradicts, read_claims, true_claims
from ffaa.forge.explain import Wording, explain
from ffaa.forge.facts import Facts
from ffaa.forge.forgery import Kind
from ffaa.forge.one_region import OPERATIONS
from ffaa.forge.regions import EDITABLE
from ffaa.types import Verdict

WORDING = load_yaml(CONFIGS / "forge" / "wording.yaml", Wording)
FACTS_OF = Facts(
    brightness=90.0,
    sharpness=500.0,
    background=200.0,
    saturation=80.0,
    yaw=-0.5,
    mouth=0.3,
    sharpness_ratio=0.8,
    tone_difference=20.0,
)
EDGES = {"edge": "narrow", "extent": "brows", "light": "darker"}
SIGNS = {
    Kind.REAL: "No signs",
    Kind.BLEND: "Signs of blending",
    Kind.SWAP: "Signs of swapping",
    Kind.SYNTHESIS: "Signs of synthesis",
}


@pytest.mark.parametrize("kind", SIGNS)
def test_kinds_are_read_back(kind: Kind) -> None:
    claims = read_claims(explain(kind, ("face",), EDGES, FACTS_OF, WORDING, default_rng(0)))
    assert (claims["sign"], claims["region"], claims["operation"]) == (SIGNS[kind], None, None)
    wanted = ("crisp", "colour", "dim", "turned to the left", "an open mouth", "pale")
    assert tuple(claims[slot] for slot in FACTS) == wanted


@pytest.mark.parametrize("region", EDITABLE)
@pytest.mark.parametrize("operation", [*OPERATIONS, "smoothed"])
def test_parts_and_what_was_done_to_them_are_read_back(region: str, operation: str) -> None:
    answer = explain(Kind.LOCAL, (region,), {"operation": operation}, FACTS_OF, WORDING, default_rng(1))
    claims = read_claims(answer)
    assert (claims["sign"], claims["region"], claims["operation"]) == ("Signs of retouching", region, operation)
    picture = {"kind": "local", "regions": [region], "artefacts": {"operation": operation}, "facts": asdict(FACTS_OF)}
    assert true_claims(picture, WORDING) == claims


def test_every_operation_is_told_from_every_other() -> None:
    operations = ("smile", "frown", "widened eyes", "narrowed eyes", *OPERATIONS, "smoothed")
    answers = [
        explain(Kind.EXPRESSION, ("mouth",), {"operation": operation}, FACTS_OF, WORDING, default_rng(0))
        for operation in operations
    ]
    assert len({read_claims(answer)["operation"] for answer in answers}) == len(operations)
    seamless = {"edge": "seamless", "extent": "brows"}
    poisson = explain(Kind.POISSON, ("face",), seamless, FACTS_OF, WORDING, default_rng(0))
    assert read_claims(poisson)["sign"] == "Signs of swapping"


def test_without_a_verdict_nothing_is_contradicted() -> None:
    for reasoning in ("No signs of editing: all is well.", "Signs of swapping: another face."):
        text = format_answer("A face.", reasoning, Verdict.REAL, 0.9, None)
        assert not contradicts(text.replace("Analysis result: real", "Analysis result: maybe"))


def test_answers_of_other_words_claim_nothing() -> None:
    assert set(read_claims("It looks real to me.").values()) == {None}
    assert set(read_claims("").values()) == {None}


@pytest.mark.parametrize(
    ("reasoning", "verdict", "contradiction"),
    [
        ("No signs of editing: all is well.", Verdict.REAL, False),
        ("No signs of editing: all is well.", Verdict.FAKE, True),
        ("Signs of swapping: another face.", Verdict.REAL, True),
        ("Signs of swapping: another face.", Verdict.FAKE, False),
        ("The light is odd.", Verdict.REAL, False),
    ],
)
def test_a_verdict_against_its_reasoning(reasoning: str, verdict: Verdict, contradiction: bool) -> None:
    assert contradicts(format_answer("A face.", reasoning, verdict, 0.9, None)) is contradiction
