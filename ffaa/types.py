"""The words every layer speaks: verdicts, answers, requests, analyses, records and the one input error.

Polarity, everywhere inside: 1 = fake, and ``score`` = P(fake) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from PIL import Image


class InputError(Exception):
    """What the user gave cannot be used. Doors print its one-line message and exit with code 2."""


class Verdict(StrEnum):
    """What an answer says of the picture; ``UNPARSED`` where it says neither."""

    REAL = "real"
    FAKE = "fake"
    UNPARSED = "unparsed"


class Hypothesis(StrEnum):
    """What the question presumed before the analysis (FFAA, section 3: hypothetical prompts)."""

    NONE = "none"
    REAL = "real"
    FAKE = "fake"


class Mode(StrEnum):
    """What of a method is loaded and used."""

    ALL = "all"
    GENERATE = "generate"
    """The language model alone, whose answers are kept."""
    SCORE = "score"
    """What judges, on answers that were kept."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright picture: left, top, right, bottom (right and bottom exclusive)."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True)
class Request:
    """One question about one picture: an upright RGB image, cropped to the face where the method needs that."""

    image: Image.Image
    id: str = ""
    question: str | None = None
    region: str | None = None
    box: Box | None = None
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class GeneratedText:
    """One answer as it comes out of a language model.

    ``finished``: it ended by itself; ``score``: P(fake) at the verdict token, None without a verdict;
    ``opening_score``: P(fake) at the first token that decides, None where the model's answers have no such token.
    """

    text: str
    finished: bool
    score: float | None
    opening_score: float | None = None


@dataclass(frozen=True)
class Answer:
    """One answer of a language model, as written (``text``) and as parsed (the other fields).

    ``score`` is P(fake) at the verdict token, None where no verdict token was found, and ``opening_score`` at the first
    token that decides; ``finished`` is False when the answer was cut by the token limit.
    """

    text: str
    verdict: Verdict
    question: str = ""
    hypothesis: Hypothesis = Hypothesis.NONE
    description: str = ""
    reasoning: str = ""
    probability: float | None = None
    forgery_type: str | None = None
    finished: bool = True
    score: float | None = None
    opening_score: float | None = None


@dataclass(frozen=True)
class Analysis:
    """What a method concludes about one picture.

    ``chosen`` indexes ``answers``; ``logits`` is the selector's row per answer (FFAA: 4 classes) and ``match_scores``
    the probability that each answer is right; both are None for methods without a selector. ``probability`` is the
    calibrated P(fake) and ``uncertain`` whether it decides nothing; both are None for weights without a calibration.
    """

    verdict: Verdict
    score: float
    answers: tuple[Answer, ...] = ()
    chosen: int = 0
    match_scores: tuple[float | None, ...] | None = None
    logits: tuple[tuple[float, ...], ...] | None = None
    id: str = ""
    probability: float | None = None
    uncertain: bool | None = None

    @property
    def answer(self) -> Answer:
        """The chosen answer."""
        return self.answers[self.chosen]

    @property
    def match_score(self) -> float | None:
        """Probability that the chosen answer is right, by the selector."""
        return None if self.match_scores is None else self.match_scores[self.chosen]

    @property
    def difficulty(self) -> str | None:
        """``easy`` when all answers give the same verdict, else ``hard``; None for a single answer."""
        if len(self.answers) < 2:
            return None
        return "easy" if len({answer.verdict for answer in self.answers}) == 1 else "hard"

    @property
    def nonsense(self) -> str | None:
        """The first of its numbers that is none (overflown weights make them), named; None when all are sound."""
        numbers: dict[str, Sequence[float | None]] = {
            "score": (self.score,),
            "probability": (self.probability,),
            "match score": self.match_scores or (),
            "logit": tuple(logit for row in self.logits or () for logit in row),
            "answer's score": tuple(answer.score for answer in self.answers),
            "answer's opening score": tuple(answer.opening_score for answer in self.answers),
        }
        return next(
            (
                f"the method's {name} is {value}"
                for name, values in numbers.items()
                for value in values
                if value is not None and not math.isfinite(value)
            ),
            None,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: every field, plus ``match_score`` and ``difficulty``."""
        return {
            **asdict(self),
            "match_score": self.match_score,
            "difficulty": self.difficulty,
        }


@dataclass(frozen=True)
class Record:
    """One line of a training file. ``image`` is relative to the file's folder and may not leave it.

    ``label`` is ``real`` or ``fake``; ``group`` names the person or source video, so that a split never shares one;
    ``conversations`` are LLaVA turns ``{"from": "human"|"gpt", "value": str}``; ``answers`` are the candidates that
    MIDS is trained on ``{"content": str, "result": "real"|"fake", "label": 0..3}``.
    """

    id: str
    image: str
    label: str
    forgery_type: str | None = None
    group: str | None = None
    task: str = "analysis"
    conversations: Sequence[Mapping[str, str]] = ()
    answers: Sequence[Mapping[str, Any]] = ()
    source_image: str | None = None
    masks: Sequence[str] = ()
    regions: Sequence[str] = ()
    box: Sequence[float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
