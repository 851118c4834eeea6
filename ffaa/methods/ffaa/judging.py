"""MIDS asked about the answers to pictures, and what follows for each picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from ffaa.methods.ffaa.decision import decide
from ffaa.methods.ffaa.mids import Mids, MidsProcessor
from ffaa.types import Analysis, Answer


@torch.inference_mode()
def answer_logits(
    model: Mids, processor: MidsProcessor, images: Sequence[Image.Image], answers: Sequence[Sequence[Answer]]
) -> list[list[list[float]]]:
    """MIDS's four logits of each answer of each picture; all pictures at once where that changes none of them."""
    # Where padding is attended to, it is that of one picture's own answers, as published.
    together = len(images) if model.settings.padding_mask else 1
    device = next(model.parameters()).device
    logits: list[list[list[float]]] = []
    for start in range(0, len(images), max(1, together)):
        block = slice(start, start + together)
        inputs = processor(images[block], [[answer.text for answer in row] for row in answers[block]])
        moved = {name: tensor.to(device) for name, tensor in inputs.items()}
        logits += model(**moved).logits.float().tolist()
    return logits


def judged(name: str, answers: Sequence[Answer], logits: Sequence[Sequence[float]]) -> Analysis:
    """The analysis of picture ``name`` that MIDS's logits of its answers lead to."""
    decision = decide(logits, [answer.verdict for answer in answers])
    return Analysis(
        verdict=decision.verdict,
        score=decision.score,
        answers=tuple(answers),
        chosen=decision.chosen,
        match_scores=decision.match_scores,
        logits=tuple(tuple(row) for row in logits),
        id=name,
    )
