"""FFAA (arXiv 2408.10072): three answers under different presumptions, and MIDS to choose the one to believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ffaa.backbones.generation import GenerationEngine, GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import MllmConfig
from ffaa.backbones.vision import Source
from ffaa.config import load_yaml
from ffaa.dialogue.answers import read
from ffaa.dialogue.prompts import HYPOTHESIS_QUESTIONS, free_question
from ffaa.methods.calibration import calibrated, read_calibration
from ffaa.methods.checkpoint import (
    base_hashes,
    find_checkpoint,
    load_trained_mllm,
    mllm_fingerprint,
    on_its_bases,
    writer_identity,
)
from ffaa.methods.ffaa.explain import MidsExplanation, explain_decision
from ffaa.methods.ffaa.judging import answer_logits, judged
from ffaa.methods.ffaa.mids import Mids, MidsConfig, MidsProcessor, build_mids, load_mids, read_config
from ffaa.methods.writing import WritesAnswers
from ffaa.metrics.calibration import Calibration
from ffaa.runtime import Compute, config_hash, pick_device, sha256_folder
from ffaa.types import Analysis, Answer, GeneratedText, Hypothesis, InputError, Mode, Request, Verdict

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


class Ffaa(WritesAnswers):
    """Generates the answers of all pictures together, orders them as published and lets MIDS decide."""

    name = "ffaa"
    needs_face = True

    def __init__(
        self,
        engine: GenerationEngine | None,
        mids: Mids | None,
        *,
        fingerprint: Mapping[str, Any],
        written_by: Mapping[str, Any],
        calibration: Calibration | None = None,
        generate_num: int = 3,
        seed: int = 0,
    ) -> None:
        """``engine`` writes, ``mids`` judges; either may be left out (``Mode``)."""
        if generate_num not in (1, 2, 3):
            raise InputError(f"generate_num is 1, 2 or 3, not {generate_num}")
        self.engine = engine
        self.mids = mids
        self.fingerprint: Mapping[str, Any] = fingerprint
        self.written_by: Mapping[str, Any] = written_by
        self.calibration = calibration
        self.generate_num = generate_num
        self.seed = seed

    @property
    def picture_bytes(self) -> int:
        """What the answers to one picture take of memory while they are written."""
        return self.engine.picture_bytes(1 if self.generate_num == 1 else len(HYPOTHESES)) if self.engine else 0

    def questions(self, requests: Sequence[Request]) -> list[list[str]]:
        """The free question, then those that presume real and fake. They do not depend on the free answer's text."""
        return [self._asked(request) for request in requests]

    def judge(self, requests: Sequence[Request], texts: Sequence[Sequence[GeneratedText]]) -> list[Analysis]:
        """The answers in the published order, and MIDS's choice among them; one MIDS call for all pictures."""
        if not requests:
            return []
        answers = [self._ordered(self._asked(request), row) for request, row in zip(requests, texts, strict=True)]
        images = [request.image for request in requests]
        logits = answer_logits(self._selector, self._processor, images, answers)
        return [
            calibrated(judged(request.id, row, scores), self.calibration)
            for request, row, scores in zip(requests, answers, logits, strict=True)
        ]

    def explain(self, request: Request, analysis: Analysis) -> MidsExplanation:
        """What of the picture made MIDS believe the chosen answer, for ``ffaa.reporting.heatmaps``."""
        texts = [answer.text for answer in analysis.answers]
        verdict = analysis.answer.verdict
        return explain_decision(self._selector, self._processor, request.image, texts, verdict, chosen=analysis.chosen)

    @property
    def _selector(self) -> Mids:
        if self.mids is None:
            raise InputError("the method was loaded without MIDS")
        return self.mids

    @cached_property
    def _processor(self) -> MidsProcessor:
        return MidsProcessor(self._selector.settings, self._selector.tokenizer)

    def _asked(self, request: Request) -> list[str]:
        free = request.question or free_question(request.id, self.seed)
        if self.generate_num == 1:
            return [free]
        return [free, HYPOTHESIS_QUESTIONS[Hypothesis.REAL], HYPOTHESIS_QUESTIONS[Hypothesis.FAKE]]

    def _ordered(self, questions: Sequence[str], texts: Sequence[GeneratedText]) -> tuple[Answer, ...]:
        """[free, the presumption opposite to its verdict, the same one], cut to ``generate_num`` answers."""
        free, *presumed = [
            read(text, question=question, hypothesis=hypothesis)
            for question, hypothesis, text in zip(questions, HYPOTHESES, texts, strict=False)
        ]
        # As published, only `real` puts the fake presumption first; an answer without a verdict counts as fake here.
        opposite_first = presumed[::-1] if free.verdict is Verdict.REAL else presumed
        return (free, *opposite_first)[: self.generate_num]


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
    limit = config.max_new_tokens if max_new_tokens is None else max_new_tokens
    settings = GenerationSettings(max_new_tokens=limit, seed=seed)
    engine = None
    if mode is not Mode.SCORE:
        mllm = load_trained_mllm(config.mllm, folder, model_dir, compute=compute, seed=seed)
        engine = TransformersEngine(mllm, settings)
    mids = None
    if mode is not Mode.GENERATE:
        mids = _load_selector(config, folder, model_dir, device=compute.device, seed=seed)
    judged_by = mids_fingerprint(mids.settings, folder) if mids else {}
    weights = {**mllm_fingerprint(config.mllm, folder), **judged_by}
    calibration = None
    if calibrate and not compute.quantize:  # fitted to what the whole weights say
        calibration = read_calibration(folder, weights, answers)
    return Ffaa(
        engine,
        mids,
        fingerprint={**weights, **({"calibration": config_hash(calibration)} if calibration else {})},
        written_by=writer_identity(config.mllm, folder, settings, compute),
        calibration=calibration,
        generate_num=answers,
        seed=seed,
    )


def _load_selector(config: FfaaConfig, folder: Path | None, model_dir: Path, *, device: str, seed: int) -> Mids:
    place = pick_device(device)
    if folder is not None:
        with on_its_bases(folder, mids_bases(read_config(folder / "mids"))):
            return load_mids(folder / "mids", device=place)
    if isinstance(config.mids.vision, str) or isinstance(config.mids.text, str):
        raise InputError(f"{model_dir / 'model.yaml'} names no checkpoint, without which MIDS is untrained")
    return build_mids(config.mids, device=place, seed=seed)


def mids_bases(config: MidsConfig) -> dict[str, Source]:
    """What MIDS is built on, by role."""
    return {"mids.vision": config.vision, "mids.text": config.text}


def mids_fingerprint(config: MidsConfig, checkpoint: Path | None) -> dict[str, str]:
    """Hashes of all that decides MIDS's logits: its configuration, its towers, what was trained."""
    return {
        "mids": config_hash(config),
        **base_hashes(mids_bases(config), checkpoint),
        **({"mids_checkpoint": sha256_folder(checkpoint / "mids")} if checkpoint else {}),
    }
