from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ffaa.dialogue.answers import format_answer
from ffaa.dialogue.prompts import FREE_QUESTIONS
from ffaa.methods import load_method
from ffaa.methods.llava.method import Llava
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import GeneratedText, Request, Verdict


class Told:
    def __init__(self, *texts: GeneratedText) -> None:
        self.texts = texts

    def ask(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        assert all(len(row) == 1 for row in questions)
        return [[text] for text in self.texts]

    def picture_bytes(self, answers: int) -> int:
        return 1


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def tiny() -> Llava:
    method = load_method("llava", model_dir=PROJECT_ROOT / "configs/llava/tiny", device="cpu", dtype="float32")
    assert isinstance(method, Llava)
    return method


def test_verdict_and_score_are_the_answer_s(tiny: Llava) -> None:
    told = Told(
        GeneratedText(format_answer("A face.", "Blurred.", Verdict.FAKE, 0.9, "Identity swap"), True, 0.8),
        GeneratedText("Hm.", False, None),
    )
    method = Llava(told, fingerprint={}, written_by={})
    fake, unclear = method.analyze([Request(picture(), id="a"), Request(picture(), id="b", question="Well?")])
    assert (fake.verdict, fake.score, fake.answer.forgery_type) == (Verdict.FAKE, 0.8, "Identity swap")
    assert fake.answer.question in FREE_QUESTIONS and fake.match_score is None and fake.difficulty is None
    assert (unclear.verdict, unclear.score, unclear.answer.finished) == (Verdict.UNPARSED, 0.5, False)
    assert unclear.answer.question == "Well?"


def test_a_batch_gives_what_its_members_would_give_alone(tiny: Llava) -> None:
    requests = [Request(picture(seed), id=str(seed)) for seed in range(4)]
    assert tiny.analyze(requests) == [tiny.analyze([request])[0] for request in requests]
    assert tiny.analyze([]) == []


def test_another_seed_asks_other_questions(tiny: Llava) -> None:
    requests = [Request(picture(), id=str(index)) for index in range(6)]
    texts = tuple(GeneratedText("x", True, None) for _ in requests)
    asked = [
        [one.answer.question for one in Llava(Told(*texts), fingerprint={}, written_by={}, seed=seed).analyze(requests)]
        for seed in (0, 0, 1)
    ]
    assert asked[0] == asked[1] != asked[2]
