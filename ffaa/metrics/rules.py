"""The ways to decide from one run's answers and scores that a summary compares on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ffaa.types import Verdict

Lines = Sequence[Mapping[str, Any]]
Decided = tuple[list[str], list[float | None] | None]
"""Verdicts, and P(fake) where the decision has one."""


def decisions_of(lines: Lines, threshold: float | None = None) -> dict[str, Decided]:
    """Every way to decide, by name, in the order of a summary.

    Args:
        lines: of ``predictions.jsonl``, without failed ones.
        threshold: of the method's score, fixed on other pictures; None leaves ``validated`` out.
    """
    return {
        "method": method_of(lines),
        "free_answer": _free_answer(lines),
        **({"opening": _opening(lines)} if _have_openings(lines) else {}),
        "majority_vote": majority_vote([[answer["verdict"] for answer in line["answers"]] for line in lines]),
        "score_threshold": by_score([line["score"] for line in lines]),
        **({} if threshold is None else {"validated": by_score([line["score"] for line in lines], threshold)}),
        **({"calibrated": _calibrated(lines)} if are_calibrated(lines) else {}),
        "majority_class": _majority_class(lines),
    }


def are_calibrated(lines: Lines) -> bool:
    """Whether any line has a calibrated P(fake)."""
    return any(line.get("probability") is not None for line in lines)


def by_score(scores: Sequence[float | None], threshold: float = 0.5) -> Decided:
    """Fake above the threshold; what has no score has no verdict."""
    verdicts = ["unparsed" if score is None else "fake" if score > threshold else "real" for score in scores]
    return verdicts, list(scores)


def method_of(lines: Lines) -> Decided:
    """Its own verdicts and scores."""
    return [line["verdict"] for line in lines], [line["score"] for line in lines]


def _free_answer(lines: Lines) -> Decided:
    first = [line["answers"][0] if line["answers"] else None for line in lines]
    return [a["verdict"] if a else Verdict.UNPARSED for a in first], [a["score"] if a else None for a in first]


def _have_openings(lines: Lines) -> bool:
    return any(answer.get("opening_score") is not None for line in lines for answer in line["answers"][:1])


def _opening(lines: Lines) -> Decided:
    """P(fake) at the free answer's first token that decides: a language model's verdict before it gives reasons."""
    scores = [line["answers"][0].get("opening_score") if line["answers"] else None for line in lines]
    return by_score(scores)


def majority_vote(said_of: Sequence[Sequence[str]]) -> Decided:
    """Most answers' verdict, the first answer's on a tie; scored by the share of parsed answers that say fake.

    Args:
        said_of: the verdicts of each picture's answers.
    """
    verdicts: list[str] = []
    scores: list[float | None] = []
    for said in said_of:
        fake, real = said.count("fake"), said.count("real")
        first = said[0] if said else Verdict.UNPARSED
        verdicts.append("fake" if fake > real else "real" if real > fake else first)
        scores.append(fake / (fake + real) if fake + real else None)
    return verdicts, scores


def _calibrated(lines: Lines) -> Decided:
    scores = [line.get("probability") for line in lines]
    return by_score(scores)


def _majority_class(lines: Lines) -> Decided:
    """The commoner label for every picture (fake on a tie): what a detector must beat."""
    n_fake = sum(line["label"] == "fake" for line in lines)
    return ["fake" if 2 * n_fake >= len(lines) else "real"] * len(lines), [0.5] * len(lines)
