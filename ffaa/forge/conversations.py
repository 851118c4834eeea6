"""Training conversations: a question, with or without a hypothesis, and the picture's truthful answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator, default_rng

from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS
from ffaa.forge.explain import Wording, explain_line
from ffaa.runtime import check_seed
from ffaa.types import Hypothesis, InputError, Record


@dataclass(frozen=True)
class ConversationSettings:
    """``hypothesis_share`` of the questions presume a verdict; ``wrong_share`` of those presume the wrong one.

    With no wrong ones the model learns to copy the hypothesis; the answer is truthful either way.
    """

    hypothesis_share: float = 0.4
    wrong_share: float = 0.22
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hypothesis_share", "wrong_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        check_seed(self.seed)


def write_conversations(
    pictures: Iterable[Mapping[str, Any]], wording: Wording, settings: ConversationSettings
) -> list[Record]:
    """One record a picture, from the lines of ``pictures.jsonl``."""
    return [_record(picture, wording, settings, index) for index, picture in enumerate(pictures)]


def _record(picture: Mapping[str, Any], wording: Wording, settings: ConversationSettings, index: int) -> Record:
    rng = default_rng([settings.seed, index])
    answer = explain_line(picture, wording, rng)
    hypothesis, question = _question(picture["label"], settings, rng)
    return Record(
        id=picture["id"],
        image=picture["image"],
        label=picture["label"],
        forgery_type=picture["forgery_type"],
        group=picture["person"],
        conversations=({"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}),
        masks=(picture["mask"],) if picture["mask"] else (),
        regions=picture["regions"],
        # Not `source_image`: the photograph is named by its place in an asset and is no file beside the records.
        extra={"kind": picture["kind"], "hypothesis": hypothesis.value, "source": picture["source"]},
    )


def _question(label: str, settings: ConversationSettings, rng: Generator) -> tuple[Hypothesis, str]:
    if rng.random() >= settings.hypothesis_share:
        return Hypothesis.NONE, str(rng.choice(FREE_QUESTIONS))
    truth, other = (Hypothesis.REAL, Hypothesis.FAKE) if label == "real" else (Hypothesis.FAKE, Hypothesis.REAL)
    hypothesis = other if rng.random() < settings.wrong_share else truth
    return hypothesis, HYPOTHESIS_QUESTIONS[hypothesis]
