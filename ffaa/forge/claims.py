"""What an answer claims, in the words in which ``explain`` writes answers; and what a truthful one would claim."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from numpy.random import default_rng

from ffaa.dialogue.answers import parse
from ffaa.forge.explain import Wording, explain_line
from ffaa.types import Verdict

FACTS = ("sharpness", "colour", "light", "pose", "mouth", "background")
"""What the description line states, each slot from one measurement."""

_DESCRIPTION: Mapping[str, str] = {
    "sharpness": r"\ba (soft|clear|crisp) ",
    "colour": r"\b(colour|black-and-white) picture",
    "light": r"\bin (dim|medium|bright) light",
    "pose": r"\bof a face (facing the camera|turned to the left|turned to the right)",
    "mouth": r"\bwith (an open mouth|closed lips)",
    "background": r"\bbefore a (dark|grey|pale) background",
}
_REASONING: Mapping[str, str] = {
    "sign": r"^(No signs|Signs of (?:blending|swapping|synthesis|retouching))\b",
    "region": r"^Signs of retouching: (\w+)",
    "operation": r"^Signs of retouching: \w+ (drawn (?:up|down)|\w+)",
}


def read_claims(answer: str) -> dict[str, str | None]:
    """The words in each slot of an answer (``FACTS``, ``sign``, ``region``, ``operation``), None where not stated."""
    parsed = parse(answer)
    claims = {name: _first(pattern, parsed.description) for name, pattern in _DESCRIPTION.items()}
    return claims | {name: _first(pattern, parsed.reasoning) for name, pattern in _REASONING.items()}


def true_claims(picture: Mapping[str, Any], wording: Wording) -> dict[str, str | None]:
    """The same slots as the truthful answer fills them, from a line of ``pictures.jsonl``."""
    return read_claims(explain_line(picture, wording, default_rng(0)))


def contradicts(answer: str) -> bool:
    """Whether the reasoning finds signs of a forgery and the verdict says real, or the other way round."""
    sign, verdict = read_claims(answer)["sign"], parse(answer).verdict
    return sign is not None and verdict is not Verdict.UNPARSED and (sign == "No signs") != (verdict is Verdict.REAL)


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
