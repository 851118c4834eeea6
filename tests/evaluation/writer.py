"""A method that writes and judges without a model, for tests of kept answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffaa.dialogue.answers import format_answer, parse
from ffaa.types import Analysis, GeneratedText, Request, Verdict

QUESTIONS = ("What is it?", "It is real. Why?")


class Writer:
    """Calls bright pictures fake; remembers what it was asked to write."""

    name = "writer"
    needs_face = False
    generate_num = 2
    picture_bytes = 0
    fingerprint: Mapping[str, Any] = {"weights": "none"}

    def __init__(self, written_by: str = "one") -> None:
        self.written_by: Mapping[str, Any] = {"model": written_by}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        return self.judge(requests, self.write(requests, self.questions(requests)))

    def questions(self, requests: Sequence[Request]) -> list[list[str]]:
        return [list(QUESTIONS[: self.generate_num]) for _ in requests]

    def write(self, requests: Sequence[Request], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        self.asked += [(request.id, tuple(row)) for request, row in zip(requests, questions, strict=True)]
        return [
            [self._text(request, question) for question in row]
            for request, row in zip(requests, questions, strict=True)
        ]

    def judge(self, requests: Sequence[Request], texts: Sequence[Sequence[GeneratedText]]) -> list[Analysis]:
        analyses = []
        for request, row in zip(requests, texts, strict=True):
            answers = tuple(parse(text.text, finished=text.finished, score=text.score) for text in row)
            analyses.append(Analysis(answers[0].verdict, float(row[0].score or 0), answers, id=request.id))
        return analyses

    def _text(self, request: Request, question: str) -> GeneratedText:
        score = float(np.asarray(request.image).mean()) / 255 / 3
        verdict = Verdict.FAKE if score > 1 / 6 else Verdict.REAL
        return GeneratedText(format_answer("A face.", f"{question} \u2028 \udc80", verdict, 0.9, None), True, score)
