"""FFAA (arXiv 2408.10072): three answers under different presumptions, and MIDS to choose the one to believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ffaa.backbones.generation import GeneratedText, GenerationEngine, GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import Mllm, MllmConfig
from ffaa.config import load_yaml
from ffaa.dialogue.answers import parse
from ffaa.dialogue.prompts import HYPOTHESIS_QUESTIONS, free_question
from ffaa.methods.checkpoint import find_checkpoint, load_trained_mllm, mllm_fingerprint, tower_hash
from ffaa.methods.ffaa.decision import decide
from ffaa.methods.ffaa.explain import MidsExplanation, explain_decision
from ffaa.methods.ffaa.mids import Mids, MidsConfig, MidsProcessor, build_mids, load_mids
from ffaa.runtime import config_hash, pick_device, sha256_folder
from ffaa.types import Analysis, Answer, Hypothesis, InputError, Request, Verdict

HYPOTHESES = (Hypothesis.NONE, Hypothesis.REAL, Hypothesis.FAKE)


@dataclass(frozen=True)
class FfaaConfig:
    """``model.yaml`` of this method."""

    mllm: MllmConfig = field(default_factory=MllmConfig)
    """The language model that answers."""
    mids: MidsConfig = field(default_factory=MidsConfig)
    """The selector; a checkpoint brings the configuration that its own was trained with."""
    checkpoint: str | None = None
    """Folder of the trained parts, relative to the project's root."""
    generate_num: int = 3
    """Answers per picture: 1 (free), 2 (free and the opposite presumption) or 3."""
    max_new_tokens: int = 512
    """Tokens after which an answer is cut."""


class Ffaa:
    """Generates the answers of all pictures together, orders them as published and lets MIDS decide."""

    name = "ffaa"
    needs_face = True

    def __init__(
        self,
        mllm: Mllm,
        engine: GenerationEngine,
        mids: Mids,
        *,
        fingerprint: Mapping[str, str],
        generate_num: int = 3,
        seed: int = 0,
    ) -> None:
        if generate_num not in (1, 2, 3):
            raise InputError(f"generate_num is 1, 2 or 3, not {generate_num}")
        self.mllm = mllm
        self.engine = engine
        self.mids = mids
        self.mids_processor = MidsProcessor(mids.settings, mids.tokenizer)
        self.fingerprint: Mapping[str, Any] = fingerprint
        self.generate_num = generate_num
        self.seed = seed

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        """One analysis per request: one generation and one MIDS call for all of them."""
        if not requests:
            return []
        asked = [self._questions(request) for request in requests]
        prompts = [[self.mllm.prompt(question) for question in questions] for questions in asked]
        images = [request.image for request in requests]
        generated = self.engine.generate(images, prompts)
        answers = [self._ordered(row, texts) for row, texts in zip(asked, generated, strict=True)]
        logits = self._logits(images, answers)
        return [
            self._analysis(request, row, scores) for request, row, scores in zip(requests, answers, logits, strict=True)
        ]

    def explain(self, request: Request, analysis: Analysis) -> MidsExplanation:
        """What of the picture made MIDS believe the chosen answer, for ``ffaa.reporting.heatmaps``."""
        answer = analysis.answer
        return explain_decision(self.mids, self.mids_processor, request.image, answer.text, answer.verdict)

    def _questions(self, request: Request) -> list[str]:
        """The free question, then those that presume real and fake. They do not depend on the free answer's text."""
        free = request.question or free_question(request.id, self.seed)
        if self.generate_num == 1:
            return [free]
        return [free, HYPOTHESIS_QUESTIONS[Hypothesis.REAL], HYPOTHESIS_QUESTIONS[Hypothesis.FAKE]]

    def _ordered(self, questions: Sequence[str], texts: Sequence[GeneratedText]) -> tuple[Answer, ...]:
        """[free, the presumption opposite to its verdict, the same one], cut to ``generate_num`` answers."""
        free, *presumed = [
            parse(text.text, question=question, hypothesis=hypothesis, finished=text.finished, score=text.score)
            for question, hypothesis, text in zip(questions, HYPOTHESES, texts, strict=False)
        ]
        # As published, only `real` puts the fake presumption first; an answer without a verdict counts as fake here.
        opposite_first = presumed[::-1] if free.verdict is Verdict.REAL else presumed
        return (free, *opposite_first)[: self.generate_num]

    @torch.inference_mode()
    def _logits(self, images: Sequence[Image.Image], answers: Sequence[Sequence[Answer]]) -> list[list[list[float]]]:
        """MIDS's four logits of each answer of each picture."""
        inputs = self.mids_processor(images, [[answer.text for answer in row] for row in answers])
        parameter = next(self.mids.parameters())
        moved = {name: tensor.to(parameter.device) for name, tensor in inputs.items()}
        logits: list[list[list[float]]] = self.mids(**moved).logits.float().tolist()
        return logits

    @staticmethod
    def _analysis(request: Request, answers: tuple[Answer, ...], logits: list[list[float]]) -> Analysis:
        decision = decide(logits, [answer.verdict for answer in answers])
        return Analysis(
            verdict=decision.verdict,
            score=decision.score,
            answers=answers,
            chosen=decision.chosen,
            match_scores=decision.match_scores,
            logits=tuple(tuple(row) for row in logits),
            id=request.id,
        )


def load(
    model_dir: Path,
    *,
    checkpoint: Path | None,
    device: str,
    dtype: str,
    generate_num: int | None,
    seed: int,
    max_new_tokens: int | None,
) -> Ffaa:
    """The method as ``model_dir/model.yaml`` says; MIDS always computes in float32.

    Raises:
        InputError: wrong YAML or checkpoint, or a number of answers other than 1, 2 or 3.
    """
    config = load_yaml(model_dir / "model.yaml", FfaaConfig)
    answers = config.generate_num if generate_num is None else generate_num
    if answers not in (1, 2, 3):
        raise InputError(f"generate_num is 1, 2 or 3, not {answers}")
    folder = find_checkpoint(config.checkpoint, checkpoint, methods=("ffaa",))
    mllm = load_trained_mllm(config.mllm, folder, model_dir, device=device, dtype=dtype, seed=seed)
    place = pick_device(device)
    if folder is not None:
        mids = load_mids(folder / "mids", device=place)
    elif isinstance(config.mids.vision, str) or isinstance(config.mids.text, str):
        raise InputError(f"{model_dir / 'model.yaml'} names no checkpoint, without which MIDS is untrained")
    else:
        mids = build_mids(config.mids, device=place, seed=seed)
    limit = config.max_new_tokens if max_new_tokens is None else max_new_tokens
    settings = GenerationSettings(max_new_tokens=limit, seed=seed)
    fingerprint = {**mllm_fingerprint(config.mllm, folder), **mids_fingerprint(mids.settings, folder)}
    return Ffaa(
        mllm,
        TransformersEngine(mllm, settings),
        mids,
        fingerprint=fingerprint,
        generate_num=answers,
        seed=seed,
    )


def mids_fingerprint(config: MidsConfig, checkpoint: Path | None) -> dict[str, str]:
    """Hashes of all that decides MIDS's logits: its configuration, its towers, what was trained."""
    return {
        "mids": config_hash(config),
        "mids_vision": tower_hash(config.vision),
        "mids_text": tower_hash(config.text),
        **({"mids_checkpoint": sha256_folder(checkpoint / "mids")} if checkpoint else {}),
    }
