"""Answers claim what was done and measured, parse back, and part at their first words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from ffaa.dialogue.answers import parse
from ffaa.forge.explain import Wording, describe, explain
from ffaa.forge.facts import Facts
from ffaa.forge.forgery import FORGERY_TYPES, Kind
from ffaa.forge.one_region import OPERATIONS
from ffaa.forge.regions import EDITABLE
from ffaa.types import Verdict

FACTS = st.builds(
    Facts,
    brightness=st.floats(0, 255),
    sharpness=st.floats(0, 500),
    background=st.floats(0, 255),
    saturation=st.floats(0, 255),
    yaw=st.floats(-1, 1),
    mouth=st.floats(0, 1),
    sharpness_ratio=st.floats(0, 5),
    tone_difference=st.floats(0, 60),
)
BORDER = {"edge": st.sampled_from(["narrow", "wide"]), "extent": st.sampled_from(["forehead", "brows"])}
CHANGE = {
    "light": st.sampled_from(["brighter", "darker"]),
    "colour": st.sampled_from(["more saturated", "paler"]),
    "sharpness": st.sampled_from(["softer", "sharper"]),
}
EXPRESSIONS = {"smile": "mouth", "frown": "mouth", "widened eyes": "eyes", "narrowed eyes": "eyes"}


def _edits() -> st.SearchStrategy[tuple[Kind, tuple[str, ...], dict[str, str]]]:
    """Everything that the forgers can return."""
    blend = st.fixed_dictionaries(BORDER, optional=CHANGE).filter(lambda a: a.keys() & {"light", "colour"})
    local = st.tuples(st.sampled_from(EDITABLE), st.sampled_from(OPERATIONS)).map(
        lambda edit: (edit[0], "smoothed" if edit[0] == "skin" else edit[1])
    )
    return st.one_of(
        st.just((Kind.REAL, (), {})),
        st.just((Kind.SYNTHESIS, ("face",), {})),
        blend.map(lambda a: (Kind.BLEND, ("face",), a)),
        st.fixed_dictionaries(BORDER).map(lambda a: (Kind.SWAP, ("face",), a)),
        BORDER["extent"].map(lambda e: (Kind.POISSON, ("face",), {"edge": "seamless", "extent": e})),
        local.map(lambda edit: (Kind.LOCAL, (edit[0],), {"operation": edit[1]})),
        st.sampled_from(sorted(EXPRESSIONS)).map(lambda w: (Kind.EXPRESSION, (EXPRESSIONS[w],), {"operation": w})),
    )


Edit = tuple[Kind, tuple[str, ...], dict[str, str]]
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _slot(kind: Kind, regions: tuple[str, ...]) -> str:
    return f"local/{regions[0]}" if kind in (Kind.LOCAL, Kind.EXPRESSION) else kind.value


@quick
@given(edit=_edits(), facts=FACTS, seed=st.integers(0, 99))
def test_every_answer_parses_back_to_the_truth(edit: Edit, facts: Facts, seed: int, wording: Wording) -> None:
    kind, regions, artefacts = edit
    text = explain(kind, regions, artefacts, facts, wording, default_rng(seed))
    assert text == explain(kind, regions, artefacts, facts, wording, default_rng(seed))
    assert len(text.splitlines()) == 5 and text.isascii() and "  " not in text
    answer = parse(text)
    assert answer.verdict is (Verdict.REAL if kind is Kind.REAL else Verdict.FAKE)
    assert answer.forgery_type == FORGERY_TYPES[kind]
    assert answer.probability == pytest.approx(wording.probability[_slot(kind, regions)])
    assert answer.description and answer.reasoning


WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "brightness": (("dim light", "medium light", "bright light"), "description"),
    "sharpness": (("a soft ", "a clear ", "a crisp "), "description"),
    "background": (("dark background", "grey background", "pale background"), "description"),
    "sharpness_ratio": (("softer than its", "about as sharp as its", "sharper than its"), "reasoning"),
    "tone_difference": (("close to them in", "somewhat apart from them in", "far from them in"), "reasoning"),
}


@quick
@given(edit=_edits(), facts=FACTS)
def test_words_are_the_levels_of_measurements(edit: Edit, facts: Facts, wording: Wording) -> None:
    kind, regions, artefacts = edit
    answer = parse(explain(kind, regions, artefacts, facts, wording, default_rng(0)))
    for name, (words, where) in WORDS.items():
        value, (low, high) = getattr(facts, name), getattr(wording.terciles, name)
        said = [word in getattr(answer, where) for word in words]
        if where == "reasoning" and kind not in (Kind.REAL, Kind.SYNTHESIS):
            assert not any(said), "the surroundings are compared where nothing else is known"
        else:
            assert said == [value <= low, low < value <= high, value > high], name
    assert ("black-and-white" in answer.description) == (facts.saturation < 12)
    assert ("open mouth" in answer.description) == (facts.mouth > 0.14) != ("closed lips" in answer.description)
    turned = "left" if facts.yaw < 0 else "right"
    pose = "facing the camera" if abs(facts.yaw) < 0.22 else f"turned to the {turned}"
    assert f"a face {pose}," in answer.description


@quick
@given(edit=_edits(), facts=FACTS)
def test_what_was_done_is_named_and_nothing_else(edit: Edit, facts: Facts, wording: Wording) -> None:
    kind, regions, artefacts = edit
    reasoning = parse(explain(kind, regions, artefacts, facts, wording, default_rng(0))).reasoning
    first = {
        Kind.REAL: "No signs of editing:",
        Kind.BLEND: "Signs of blending:",
        Kind.SWAP: "Signs of swapping:",
        Kind.POISSON: "Signs of swapping:",
        Kind.LOCAL: "Signs of retouching:",
        Kind.EXPRESSION: "Signs of retouching:",
        Kind.SYNTHESIS: "Signs of synthesis:",
    }
    assert reasoning.startswith(first[kind])
    if kind is Kind.BLEND:
        for name in CHANGE:
            options = ("brighter", "darker", "more saturated", "paler", "softer", "sharper")
            said = {word for word in options if re.search(rf"\b{word}\b", reasoning)}
            seen = CHANGE.keys() - {"colour"} if facts.saturation < 12 else CHANGE.keys()
            assert said == {artefacts[key] for key in seen if key in artefacts}, name
    if "edge" in artefacts:
        edge = "no visible border" if artefacts["edge"] == "seamless" else f"a {artefacts['edge']} border"
        reach = "the forehead" if artefacts["extent"] == "forehead" else "the brows"
        assert f"{edge} from {reach} to the jaw" in reasoning
    if kind in (Kind.LOCAL, Kind.EXPRESSION):
        named = [region for region in EDITABLE if re.search(rf": {region} ", reasoning)]
        assert named == list(regions)
        word = {"smile": "up at the corners", "frown": "down at the corners"}.get(artefacts["operation"])
        assert (word or artefacts["operation"].split()[0]) in reasoning


def test_every_operation_has_words_of_its_own(wording: Wording) -> None:
    facts = Facts(120, 50, 100, 80, 0, 0.1, 1.0, 15)
    edits = [("nose", operation) for operation in OPERATIONS]
    edits += [("skin", "smoothed"), *((region, what) for what, region in EXPRESSIONS.items())]
    phrases = {
        parse(explain(Kind.LOCAL, (region,), {"operation": what}, facts, wording, default_rng(0))).reasoning
        for region, what in edits
    }
    assert len(phrases) == len(edits)


def test_branches_part_at_the_first_word_that_decides(wording: Wording) -> None:
    """No class may gain by having more or fewer ways to begin."""
    facts = Facts(120, 50, 100, 80, 0, 0.1, 1.0, 15)
    border = {"edge": "narrow", "extent": "brows"}
    edits: list[tuple[Kind, tuple[str, ...], dict[str, Any]]] = [
        (Kind.REAL, (), {}),
        (Kind.BLEND, ("face",), {"light": "darker", **border}),
        (Kind.SWAP, ("face",), border),
        (Kind.SYNTHESIS, ("face",), {}),
        *((Kind.LOCAL, (region,), {"operation": "blurred"}) for region in EDITABLE),
    ]
    beginnings: dict[str, set[str]] = {}
    for kind, regions, artefacts in edits:
        for seed in range(20):
            reasoning = parse(explain(kind, regions, artefacts, facts, wording, default_rng(seed))).reasoning
            beginnings.setdefault(_slot(kind, regions), set()).add(" ".join(reasoning.split()[:4]))
    assert all(len(ways) == 1 for ways in beginnings.values()), "one wording up to the deciding word"
    assert len(set.union(*beginnings.values())) == len(edits)


def test_the_texts_that_shipped_weights_were_trained_on(wording: Wording) -> None:
    facts = Facts(120, 50, 100, 80, -0.3, 0.2, 1.0, 15)
    assert describe(facts, wording.terciles) == (
        "a clear colour picture in medium light of a face turned to the left, "
        "with an open mouth, before a grey background."
    )
    artefacts = {"light": "darker", "sharpness": "softer", "edge": "narrow", "extent": "forehead"}
    assert parse(explain(Kind.BLEND, ("face",), artefacts, facts, wording, default_rng(0))).reasoning == (
        "Signs of blending: the inner face was made darker and softer than it was, "
        "with a narrow border from the forehead to the jaw."
    )
    assert parse(explain(Kind.SWAP, ("face",), artefacts, facts, wording, default_rng(0))).reasoning == (
        "Signs of swapping: the inner face is another person's, fitted to these ears, hair and jaw, "
        "with a narrow border from the forehead to the jaw."
    )
    assert parse(explain(Kind.SYNTHESIS, ("face",), {}, facts, wording, default_rng(0))).reasoning == (
        "Signs of synthesis: no part of this face was photographed, "
        "with a face about as sharp as its surroundings and somewhat apart from them in colour."
    )
    local = explain(Kind.LOCAL, ("nose",), {"operation": "enlarged"}, facts, wording, default_rng(0))
    assert parse(local).reasoning.startswith("Signs of retouching: nose enlarged, stretching the skin beside. ")
    real = explain(Kind.REAL, (), {}, facts, wording, default_rng(0))
    assert parse(real).reasoning.startswith("No signs of editing: ")


def test_the_shipped_wording_covers_everything_that_can_be_said() -> None:
    from ffaa.config import CONFIGS, load_yaml

    shipped = load_yaml(CONFIGS / "forge" / "wording.yaml", Wording)
    slots = {kind.value for kind in Kind if kind not in (Kind.LOCAL, Kind.EXPRESSION)}
    assert set(shipped.probability) == slots | {f"local/{region}" for region in EDITABLE}
    assert all(0 <= value <= 1 for value in shipped.probability.values())
    assert all(low < high for low, high in vars(shipped.terciles).values())
