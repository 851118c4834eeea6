"""The multimodal language model alone: one question, one answer, the verdict that it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.backbones.generation import GenerationEngine, GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import Mllm, MllmConfig
from ffaa.config import load_yaml
from ffaa.dialogue.answers import parse
from ffaa.dialogue.prompts import free_question
from ffaa.methods.checkpoint import find_checkpoint, load_trained_mllm, mllm_fingerprint
from ffaa.types import Analysis, InputError, Request

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


class Llava:
    """Asks one free question; score = P(fake) at the verdict token, 0.5 where the answer gives no verdict."""

    name = "llava"
    needs_face = True
    generate_num = 1

    def __init__(self, mllm: Mllm, engine: GenerationEngine, *, fingerprint: Mapping[str, str], seed: int = 0) -> None:
        self.mllm = mllm
        self.engine = engine
        self.fingerprint: Mapping[str, Any] = fingerprint
        self.seed = seed

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        """One analysis per request; all answers are decoded together."""
        questions = [request.question or free_question(request.id, self.seed) for request in requests]
        prompts = [[self.mllm.prompt(question)] for question in questions]
        generated = self.engine.generate([request.image for request in requests], prompts)
        analyses = []
        for request, question, (text,) in zip(requests, questions, generated, strict=True):
            answer = parse(text.text, question=question, finished=text.finished, score=text.score)
            score = UNDECIDED if answer.score is None else answer.score
            analyses.append(Analysis(verdict=answer.verdict, score=score, answers=(answer,), id=request.id))
        return analyses


def load(
    model_dir: Path,
    *,
    checkpoint: Path | None,
    device: str,
    dtype: str,
    generate_num: int | None,
    seed: int,
    max_new_tokens: int | None,
) -> Llava:
    """The method as ``model_dir/model.yaml`` says.

    Raises:
        InputError: wrong YAML or checkpoint, or more than one answer asked for.
    """
    if generate_num not in (None, 1):
        raise InputError(f"method llava gives one answer, not {generate_num}; --method ffaa selects among several")
    config = load_yaml(model_dir / "model.yaml", LlavaConfig)
    folder = find_checkpoint(config.checkpoint, checkpoint, methods=("llava", "ffaa"))
    mllm = load_trained_mllm(config.mllm, folder, model_dir, device=device, dtype=dtype, seed=seed)
    limit = config.max_new_tokens if max_new_tokens is None else max_new_tokens
    settings = GenerationSettings(max_new_tokens=limit, seed=seed)
    return Llava(mllm, TransformersEngine(mllm, settings), fingerprint=mllm_fingerprint(config.mllm, folder), seed=seed)
