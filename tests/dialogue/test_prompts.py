from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS, free_question
from ffaa.types import Hypothesis

PROMPTS_FILE = Path(__file__).resolve().parents[2] / "playground" / "prompts.txt"


def test_the_published_file_holds_the_same_questions() -> None:
    assert tuple(PROMPTS_FILE.read_text(encoding="utf-8").splitlines()) == FREE_QUESTIONS


def test_hypotheses_presume_both_verdicts_and_nothing_else() -> None:
    assert set(HYPOTHESIS_QUESTIONS) == {Hypothesis.REAL, Hypothesis.FAKE}


def test_the_question_of_a_picture_is_fixed() -> None:
    ids = [f"img_{index}.png" for index in range(2000)]
    assert [free_question(i) for i in ids] == [free_question(i) for i in ids]
    assert [free_question(i, seed=1) for i in ids] != [free_question(i, seed=2) for i in ids]


def test_the_ten_questions_are_asked_about_equally_often() -> None:
    counts = Counter(free_question(f"img_{index}.png") for index in range(5000))
    assert set(counts) == set(FREE_QUESTIONS)
    assert max(counts.values()) < 600 and min(counts.values()) > 400


@pytest.mark.parametrize("image_id", ["", "名前.jpg", "\udcff.png"])
def test_any_name_has_a_question(image_id: str) -> None:
    assert free_question(image_id) in FREE_QUESTIONS
