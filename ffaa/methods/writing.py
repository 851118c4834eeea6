"""What methods share whose language model writes answers that something then judges (``Generates``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ffaa.backbones.generation import GenerationEngine
from ffaa.types import Analysis, GeneratedText, InputError, Request


class WritesAnswers(ABC):
    """``analyze`` is ``judge`` of what ``write`` gave; ``engine`` may be left out (``Mode.SCORE``)."""

    engine: GenerationEngine | None

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        """One analysis per request; all answers to all pictures are generated together, and judged together."""
        return self.judge(requests, self.write(requests, self.questions(requests)))

    def write(self, requests: Sequence[Request], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        """All answers to all pictures, generated together.

        Raises:
            InputError: the method was loaded without its language model.
        """
        if self.engine is None:
            raise InputError("the method was loaded without its language model")
        return self.engine.ask([request.image for request in requests], questions) if requests else []

    @abstractmethod
    def questions(self, requests: Sequence[Request]) -> list[list[str]]:
        """What is asked about each picture."""

    @abstractmethod
    def judge(self, requests: Sequence[Request], texts: Sequence[Sequence[GeneratedText]]) -> list[Analysis]:
        """One analysis a request from the answers to all of its questions."""
