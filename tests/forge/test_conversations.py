"""Training conversations: the stated share of hypotheses, and answers that stay truthful under wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from ffaa.dialogue.answers import parse
from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS
from ffaa.forge.conversations import ConversationSettings, write_conversations
from ffaa.forge.explain import Wording
from ffaa.forge.forgery import FORGERY_TYPES, Kind
from ffaa.types import Hypothesis, InputError

FACTS = {
    "brightness": 120.0,
    "sharpness": 50.0,
    "background": 100.0,
    "saturation": 80.0,
    "yaw": 0.0,
    "mouth": 0.1,
    "sharpness_ratio": 1.0,
    "tone_difference": 15.0,
}
EDITS: list[tuple[Kind, list[str], dict[str, str]]] = [
    (Kind.REAL, [], {}),
    (Kind.BLEND, ["face"], {"colour": "paler", "edge": "wide", "extent": "brows"}),
    (Kind.SWAP, ["face"], {"edge": "narrow", "extent": "forehead"}),
    (Kind.LOCAL, ["nose"], {"operation": "enlarged"}),
    (Kind.SYNTHESIS, ["face"], {}),
]


def _pictures(count: int) -> list[dict[str, Any]]:
    pictures = []
    for index in range(count):
        # half real, as in the recipes
        kind, regions, artefacts = EDITS[0] if index % 2 else EDITS[1 + index // 2 % (len(EDITS) - 1)]
        real = kind is Kind.REAL
        pictures.append(
            {
                "id": f"{index:05d}",
                "image": f"imgs/{index:05d}.jpg",
                "mask": None if real else f"masks/{index:05d}.png",
                "kind": kind.value,
                "label": "real" if real else "fake",
                "forgery_type": FORGERY_TYPES[kind],
                "person": f"person-{index % 7}",
                "source": f"source/{index}",
                "donor": None,
                "regions": regions,
                "artefacts": artefacts,
                "facts": FACTS,
            }
        )
    return pictures


def test_every_record_asks_about_its_picture_and_answers_truthfully(wording: Wording) -> None:
    pictures = _pictures(300)
    records = write_conversations(pictures, wording, ConversationSettings(hypothesis_share=0.6, wrong_share=0.5))
    assert len(records) == len(pictures)
    for picture, record in zip(pictures, records, strict=True):
        human, gpt = record.conversations
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        token, question = human["value"].split("\n", 1)
        hypothesis = Hypothesis(record.extra["hypothesis"])
        assert token == "<image>"
        assert (
            question in FREE_QUESTIONS
            if hypothesis is Hypothesis.NONE
            else question == HYPOTHESIS_QUESTIONS[hypothesis]
        )
        answer = parse(gpt["value"])
        assert answer.verdict == picture["label"] == record.label
        assert answer.forgery_type == picture["forgery_type"] == record.forgery_type
        assert (record.image, record.group, record.source_image) == (picture["image"], picture["person"], None)
        assert record.extra["source"] == picture["source"]
        assert list(record.masks) == ([picture["mask"]] if picture["mask"] else [])


@pytest.mark.parametrize(("hypothesis_share", "wrong_share"), [(0.4, 0.18), (0.0, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_hypotheses_come_at_the_stated_shares(hypothesis_share: float, wrong_share: float, wording: Wording) -> None:
    settings = ConversationSettings(hypothesis_share, wrong_share)
    records = write_conversations(_pictures(2000), wording, settings)
    presumed = [record for record in records if record.extra["hypothesis"] != Hypothesis.NONE]
    assert len(presumed) / len(records) == pytest.approx(hypothesis_share, abs=0.035)
    if presumed:
        wrong = [record for record in presumed if record.extra["hypothesis"] != record.label]
        assert len(wrong) / len(presumed) == pytest.approx(wrong_share, abs=0.05)


def test_free_questions_are_all_asked(wording: Wording) -> None:
    records = write_conversations(_pictures(400), wording, ConversationSettings(hypothesis_share=0.0))
    assert {record.conversations[0]["value"].split("\n", 1)[1] for record in records} == set(FREE_QUESTIONS)


def test_records_depend_on_the_seed_and_on_their_own_place_only(wording: Wording) -> None:
    settings = ConversationSettings(seed=3)
    records = write_conversations(_pictures(40), wording, settings)
    assert records == write_conversations(_pictures(40), wording, settings)
    assert records[:20] == write_conversations(_pictures(20), wording, settings)
    assert records != write_conversations(_pictures(40), wording, ConversationSettings(seed=4))


@pytest.mark.parametrize("wrong", [{"hypothesis_share": 1.5}, {"wrong_share": -0.1}, {"seed": -1}])
def test_shares_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)).partition("_")[0]):
        ConversationSettings(**wrong)  # type: ignore[arg-type]
