"""The truthful five-line answer of a picture, written from what was done to it and what was measured on it.

Built as a decision tree with one wording per deciding slot and distinct first words at every branch, variety only after
the last of them: a decoder that takes the likeliest *phrase* then also takes the likeliest *class*. With free wording,
greedy decoding fell for whichever class had the fewest ways to begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from ffaa.dialogue.answers import format_answer
from ffaa.forge.facts import Facts, Terciles, level
from ffaa.forge.forgery import FORGERY_TYPES, Kind
from ffaa.types import Verdict

TURNED = 0.22
"""Yaw beyond which a face is called turned."""
OPEN_MOUTH = 0.14
"""Gap of the lips beyond which a mouth is called open."""
GREY = 12.0
"""Mean saturation below which a picture is called black-and-white."""

_OPERATIONS: Mapping[str, str] = {
    "enlarged": "enlarged, stretching the skin beside",
    "shrunk": "shrunk, drawing in the skin beside",
    "blurred": "blurred, with less detail than the rest",
    "recoloured": "recoloured, apart from the tone beside",
    "smoothed": "smoothed, with the fine grain wiped away",
    "liquified": "liquified, dragging the skin beside along",
    "smile": "drawn up at the corners",
    "frown": "drawn down at the corners",
    "widened eyes": "widened between the lids",
    "narrowed eyes": "narrowed between the lids",
}
_UNTOUCHED = (
    "The rest of the face was left as it was.",
    "Nothing else in the face was changed.",
    "All other parts are as they were photographed.",
)
_UNEDITED = (
    "nothing in this photograph was altered",
    "no part of this face was altered",
    "the whole face is as photographed",
)


@dataclass(frozen=True)
class Wording:
    """What the writer needs besides the picture.

    ``probability`` is what the line ``Probability:`` states: the probability that a linear probe on frozen CLIP
    features, cross-validated on training people, ranks a forged picture of this kind (``local/<region>`` for edits of
    one region) as more suspect than a real one; for ``real``, the same over all kinds. It says how well such pictures
    can be told at all.
    """

    terciles: Terciles
    probability: Mapping[str, float]


def explain(
    kind: Kind, regions: tuple[str, ...], artefacts: Mapping[str, str], facts: Facts, wording: Wording, rng: Generator
) -> str:
    """The five-line answer. Nothing in it is claimed that was not done by the forger or measured in ``facts``."""
    region = regions[0] if regions else ""
    slot = f"local/{region}" if kind in (Kind.LOCAL, Kind.EXPRESSION) else kind.value
    return format_answer(
        description=describe(facts, wording.terciles),
        reasoning=_reason(kind, region, artefacts, facts, wording.terciles, rng),
        verdict=Verdict.REAL if kind is Kind.REAL else Verdict.FAKE,
        probability=wording.probability[slot],
        forgery_type=FORGERY_TYPES[kind],
    )


def explain_line(picture: Mapping[str, Any], wording: Wording, rng: Generator) -> str:
    """:func:`explain` for a line of ``pictures.jsonl``."""
    facts = Facts(**picture["facts"])
    return explain(Kind(picture["kind"]), tuple(picture["regions"]), picture["artefacts"], facts, wording, rng)


def describe(facts: Facts, terciles: Terciles) -> str:
    """Light, sharpness, pose, mouth, background and colour, each from one measurement."""
    colour = "black-and-white" if facts.saturation < GREY else "colour"
    sharp = ("soft", "clear", "crisp")[level(facts.sharpness, terciles.sharpness)]
    light = ("dim", "medium", "bright")[level(facts.brightness, terciles.brightness)]
    behind = ("dark", "grey", "pale")[level(facts.background, terciles.background)]
    pose = "facing the camera"
    if abs(facts.yaw) >= TURNED:
        pose = "turned to the left" if facts.yaw < 0 else "turned to the right"
    mouth = "an open mouth" if facts.mouth > OPEN_MOUTH else "closed lips"
    return f"a {sharp} {colour} picture in {light} light of a face {pose}, with {mouth}, before a {behind} background."


def _reason(
    kind: Kind, region: str, artefacts: Mapping[str, str], facts: Facts, terciles: Terciles, rng: Generator
) -> str:
    if kind is Kind.REAL:
        return f"No signs of editing: {rng.choice(_UNEDITED)}, {_compared(facts, terciles)}."
    if kind is Kind.BLEND:
        # In a black-and-white picture a change of colour is not there to be seen any more.
        visible = ("light", "sharpness") if facts.saturation < GREY else ("light", "colour", "sharpness")
        changed = " and ".join(artefacts[name] for name in visible if name in artefacts)
        made = f"made {changed} than it was" if changed else "moved over itself"
        return f"Signs of blending: the inner face was {made}, with {_border(artefacts)}."
    if kind in (Kind.SWAP, Kind.POISSON):
        return (
            "Signs of swapping: the inner face is another person's, fitted to these ears, hair and jaw, "
            f"with {_border(artefacts)}."
        )
    if kind is Kind.SYNTHESIS:
        return f"Signs of synthesis: no part of this face was photographed, {_compared(facts, terciles)}."
    return f"Signs of retouching: {region} {_OPERATIONS[artefacts['operation']]}. {rng.choice(_UNTOUCHED)}"


def _border(artefacts: Mapping[str, str]) -> str:
    edge = {"narrow": "a narrow border", "wide": "a wide border", "seamless": "no visible border"}[artefacts["edge"]]
    reach = "the forehead" if artefacts["extent"] == "forehead" else "the brows"
    return f"{edge} from {reach} to the jaw"


def _compared(facts: Facts, terciles: Terciles) -> str:
    sharp = ("softer than", "about as sharp as", "sharper than")[level(facts.sharpness_ratio, terciles.sharpness_ratio)]
    tone = ("close to", "somewhat apart from", "far from")[level(facts.tone_difference, terciles.tone_difference)]
    return f"with a face {sharp} its surroundings and {tone} them in colour"
