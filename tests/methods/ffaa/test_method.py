from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.backbones.adapter import attach_lora, save_adapter
from ffaa.backbones.mllm import build_mllm
from ffaa.config import load_yaml
from ffaa.dialogue.answers import format_answer
from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS
from ffaa.methods import load_method
from ffaa.methods.ffaa.method import Ffaa, FfaaConfig
from ffaa.methods.ffaa.mids import build_mids, save_mids
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import GeneratedText, Hypothesis, InputError, Request, Verdict

TINY = PROJECT_ROOT / "configs/ffaa/tiny"
REAL, FAKE, NEITHER = Verdict.REAL, Verdict.FAKE, Verdict.UNPARSED
NONE, HYP_REAL, HYP_FAKE = Hypothesis.NONE, Hypothesis.REAL, Hypothesis.FAKE


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def answer(verdict: Verdict) -> str:
    return "I cannot say." if verdict is NEITHER else format_answer("A face.", f"It is {verdict}.", verdict, 0.9, None)


class Scripted:
    """An engine that answers the free question, the one presuming real and the one presuming fake as told."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.calls: list[list[list[str]]] = []

    def ask(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        self.calls.append([list(row) for row in questions])
        return [[GeneratedText(answer(v), True, 0.3) for v in self.verdicts[: len(row)]] for row in questions]

    def picture_bytes(self, answers: int) -> int:
        return 1


@pytest.fixture(scope="module")
def tiny() -> Ffaa:
    method = load_method("ffaa", model_dir=TINY, device="cpu", dtype="float32")
    assert isinstance(method, Ffaa)
    return method


def scripted(tiny: Ffaa, *verdicts: Verdict, generate_num: int = 3) -> tuple[Ffaa, Scripted]:
    engine = Scripted(*verdicts)
    return Ffaa(engine, tiny.mids, fingerprint={}, written_by={}, generate_num=generate_num), engine


@pytest.mark.parametrize(
    ("free", "order"),
    [(REAL, [NONE, HYP_FAKE, HYP_REAL]), (FAKE, [NONE, HYP_REAL, HYP_FAKE]), (NEITHER, [NONE, HYP_REAL, HYP_FAKE])],
)
@pytest.mark.parametrize("generate_num", [1, 2, 3])
def test_answers_stand_in_the_published_order(
    tiny: Ffaa, free: Verdict, order: list[Hypothesis], generate_num: int
) -> None:
    method, engine = scripted(tiny, free, REAL, FAKE, generate_num=generate_num)
    (analysis,) = method.analyze([Request(picture(), id="a")])
    assert [one.hypothesis for one in analysis.answers] == order[:generate_num]
    assert [one.verdict for one in analysis.answers] == [
        {NONE: free, HYP_REAL: REAL, HYP_FAKE: FAKE}[hypothesis] for hypothesis in order[:generate_num]
    ]
    assert len(engine.calls) == 1 and len(engine.calls[0][0]) == (1 if generate_num == 1 else 3)
    assert analysis.logits is not None and len(analysis.logits) == generate_num
    assert analysis.answers[0].score == 0.3 and analysis.id == "a"


def test_the_questions_are_the_paper_s_and_one_may_be_given(tiny: Ffaa) -> None:
    method, engine = scripted(tiny, REAL, REAL, FAKE)
    plain, asked = method.analyze([Request(picture(), id="a"), Request(picture(), id="a", question="Who edited it?")])
    assert plain.answers[0].question in FREE_QUESTIONS
    assert asked.answers[0].question == "Who edited it?"
    presumed = list(HYPOTHESIS_QUESTIONS.values())
    assert engine.calls[0][1] == ["Who edited it?", *presumed]


def test_the_most_credible_answer_is_chosen(tiny: Ffaa) -> None:
    method, _ = scripted(tiny, REAL, REAL, FAKE)
    (analysis,) = method.analyze([Request(picture())])
    assert analysis.match_scores is not None
    matches = [score for score in analysis.match_scores if score is not None]
    assert analysis.match_score == max(matches)
    assert analysis.verdict is analysis.answer.verdict
    assert analysis.difficulty == "hard"
    wanted = analysis.match_score if analysis.verdict is FAKE else 1 - analysis.match_score
    assert analysis.score == pytest.approx(wanted)


def test_no_verdict_at_all_still_gives_a_score(tiny: Ffaa) -> None:
    method, _ = scripted(tiny, NEITHER, NEITHER, NEITHER)
    (analysis,) = method.analyze([Request(picture())])
    assert analysis.verdict is NEITHER and 0 < analysis.score < 1
    assert analysis.match_scores == (None, None, None)


def test_a_batch_gives_what_its_members_would_give_alone(tiny: Ffaa) -> None:
    requests = [Request(picture(seed), id=str(seed)) for seed in range(5)]
    together, alone = tiny.analyze(requests), [tiny.analyze([request])[0] for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert [a.text for a in one.answers] == [a.text for a in other.answers]
        assert (one.verdict, one.chosen) == (other.verdict, other.chosen)
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert np.allclose(np.array(one.logits), np.array(other.logits), atol=1e-4)
    assert tiny.analyze([]) == []


def test_the_decision_can_be_explained(tiny: Ffaa) -> None:
    method, _ = scripted(tiny, FAKE, REAL, FAKE)
    request = Request(picture())
    (analysis,) = method.analyze([request])
    explanation = method.explain(request, analysis)
    row = explanation.module(explanation.pixel_values)[0]
    matched = torch.sigmoid(explanation.target(row))
    assert float(matched.detach()) == pytest.approx(analysis.match_score, abs=1e-5)


def test_generate_num_is_one_to_three(tiny: Ffaa) -> None:
    with pytest.raises(InputError, match="4"):
        Ffaa(Scripted(), tiny.mids, fingerprint={}, written_by={}, generate_num=4)


def test_a_checkpoint_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    config = load_yaml(TINY / "model.yaml", FfaaConfig)
    save_adapter(attach_lora(build_mllm(config.mllm, seed=7), config.mllm, seed=7), tmp_path / "mllm")
    save_mids(build_mids(config.mids, seed=7), tmp_path / "mids")
    (tmp_path / "checkpoint.json").write_text(json.dumps({"format": 1, "method": "ffaa"}), encoding="utf-8")
    method = load_method("ffaa", model_dir=TINY, checkpoint=tmp_path, device="cpu", dtype="float32")
    assert {"mllm_checkpoint", "mids_checkpoint"} <= set(method.fingerprint)
    assert isinstance(method, Ffaa)
    assert torch.equal(method.mids.classifier.weight, build_mids(config.mids, seed=7).classifier.weight)
    (tmp_path / "mids" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_method("ffaa", model_dir=TINY, checkpoint=tmp_path, device="cpu")
