"""The multimodal language model alone: one question, one answer, the verdict that it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.backbones.generation import GenerationEngine, GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import MllmConfig
from ffaa.config import load_yaml
from ffaa.dialogue.answers import read
from ffaa.dialogue.prompts import free_question
from ffaa.methods.checkpoint import find_checkpoint, load_trained_mllm, mllm_fingerprint, writer_identity
from ffaa.methods.writing import WritesAnswers
from ffaa.runtime import Compute
from ffaa.types import Analysis, GeneratedText, InputError, Mode, Request

UNDECIDED = 0.5


@dataclass(frozen=True)
class LlavaConfig:
    """``model.yaml`` of this method."""

    mllm: MllmConfig = field(default_factory=MllmConfig)
    """The model."""
    checkpoint: str | None = None
    """Folder of its trained parts, relative to the project's root."""
    max_new_tokens: int = 512
    """Tokens after which an answer is cut."""


class Llava(WritesAnswers):
    """Asks one free question; score = P(fake) at the verdict token, 0.5 where the answer gives no verdict."""

    name = "llava"
    needs_face = True
    generate_num = 1

    def __init__(
        self,
        engine: GenerationEngine | None,
        *,
        fingerprint: Mapping[str, Any],
        written_by: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        """``engine`` may be left out (``Mode.SCORE``)."""
        self.engine = engine
        self.fingerprint: Mapping[str, Any] = fingerprint
        self.written_by: Mapping[str, Any] = written_by
        self.seed = seed

    @property
    def picture_bytes(self) -> int:
        """What the answers to one picture take of memory while they are written."""
        return self.engine.picture_bytes(1) if self.engine else 0

    def questions(self, requests: Sequence[Request]) -> list[list[str]]:
        """One free question a picture, or the one that the request brings."""
        return [[request.question or free_question(request.id, self.seed)] for request in requests]

    def judge(self, requests: Sequence[Request], texts: Sequence[Sequence[GeneratedText]]) -> list[Analysis]:
        """The verdict that the answer states."""
        analyses = []
        for request, (question,), (text,) in zip(requests, self.questions(requests), texts, strict=True):
            answer = read(text, question=question)
            score = UNDECIDED if answer.score is None else answer.score
            analyses.append(Analysis(verdict=answer.verdict, score=score, answers=(answer,), id=request.id))
        return analyses


def load(
    model_dir: Path,
    *,
    checkpoint: Path | None,
    compute: Compute,
    generate_num: int | None,
    seed: int,
    max_new_tokens: int | None,
    mode: Mode = Mode.ALL,
    calibrate: bool = True,
) -> Llava:
    """The method as ``model_dir/model.yaml`` says; it has no calibration to apply.

    Raises:
        InputError: wrong YAML or checkpoint, or more than one answer asked for.
    """
    if generate_num not in (None, 1):
        raise InputError(f"method llava gives one answer, not {generate_num}; --method ffaa selects among several")
    config = load_yaml(model_dir / "model.yaml", LlavaConfig)
    folder = find_checkpoint(config.checkpoint, checkpoint, methods=("llava", "ffaa"))
    limit = config.max_new_tokens if max_new_tokens is None else max_new_tokens
    settings = GenerationSettings(max_new_tokens=limit, seed=seed)
    engine = None
    if mode is not Mode.SCORE:
        mllm = load_trained_mllm(config.mllm, folder, model_dir, compute=compute, seed=seed)
        engine = TransformersEngine(mllm, settings)
    return Llava(
        engine,
        fingerprint=mllm_fingerprint(config.mllm, folder),
        written_by=writer_identity(config.mllm, folder, settings, compute),
        seed=seed,
    )
