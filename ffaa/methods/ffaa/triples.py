"""Three answers a picture from the stage-1 model, and their labels for MIDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from PIL import Image

from ffaa.backbones.generation import GenerationEngine
from ffaa.dialogue.answers import parse
from ffaa.dialogue.prompts import HYPOTHESIS_QUESTIONS, free_question
from ffaa.methods.ffaa.mids_data import answer_label
from ffaa.types import Hypothesis, Record, Verdict


def generate_triples(
    free: GenerationEngine,
    presumed: GenerationEngine,
    images: Sequence[Image.Image],
    records: Sequence[Record],
    seed: int,
) -> list[list[dict[str, str]]]:
    """Per picture ``[free, opposite of its verdict, same]``, each ``{"content", "result"}`` as published."""
    questions = [[free_question(record.id, seed)] for record in records]
    hypotheses = [HYPOTHESIS_QUESTIONS[h] for h in (Hypothesis.REAL, Hypothesis.FAKE)]
    if free is presumed:
        texts = free.ask(images, [[*question, *hypotheses] for question in questions])
    else:
        first = free.ask(images, questions)
        rest = presumed.ask(images, [hypotheses for _ in images])
        texts = [[*a, *b] for a, b in zip(first, rest, strict=True)]
    return [_ordered([text.text for text in row]) for row in texts]


def label_triples(
    records: Sequence[Record], answers: Mapping[str, Sequence[Mapping[str, str]]], keep_equal: float, seed: int
) -> tuple[list[Record], dict[str, int]]:
    """Records with labelled answers, and how many pictures were hard, equal (kept, dropped) or unparsed."""
    counts = {"hard": 0, "equal_kept": 0, "equal_dropped": 0, "unparsed": 0}
    kept = []
    for record in records:
        triple = answers[record.id]
        verdicts = {answer["result"] for answer in triple}
        if Verdict.UNPARSED in verdicts:
            counts["unparsed"] += 1
            continue
        equal = len(verdicts) == 1
        if equal and Random(f"{seed}/{record.id}").random() >= keep_equal:
            counts["equal_dropped"] += 1
            continue
        counts["equal_kept" if equal else "hard"] += 1
        labelled: list[dict[str, Any]] = [
            {**answer, "label": answer_label(record.label, answer["result"])} for answer in triple
        ]
        kept.append(replace(record, task="selection", conversations=(), answers=tuple(labelled)))
    return kept, counts


def _ordered(texts: Sequence[str]) -> list[dict[str, str]]:
    free, real, fake = ({"content": text, "result": parse(text).verdict.value} for text in texts)
    # As in inference: only a free verdict of `real` puts the fake presumption first.
    return [free, fake, real] if free["result"] == Verdict.REAL else [free, real, fake]
