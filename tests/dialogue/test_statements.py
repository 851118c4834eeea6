"""How phrasings of a verdict are read: what we say, and what FFAA's and M2F2-Det's published readers say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffaa.dialogue.answers import parse
from ffaa.dialogue.statements import PUBLISHED_READERS, published_ffaa, published_m2f2_det, read_statement
from ffaa.types import Verdict

R, F, U = Verdict.REAL, Verdict.FAKE, Verdict.UNPARSED

# phrase, ours, FFAA's selector, M2F2-Det's evaluation
TABLE = [
    ("real", R, R, R),
    ("fake", F, F, F),
    ("Real", R, F, R),
    ("REAL", R, F, R),
    ("FAKE!", F, F, F),
    ("real.", R, F, R),
    ("**real**", R, F, R),
    ("**Fake**.", F, F, F),
    ("`fake`", F, F, F),
    ("# Verdict: *fake*", F, F, F),
    ('"real"', R, F, R),
    ("genuine", R, F, U),
    ("Authentic.", R, F, U),
    ("The image looks real.", R, F, R),
    ("The image looks fake.", F, F, F),
    ("The image is fake.", F, F, F),
    ("This is a real human face.", R, F, R),
    ("This face has been manipulated.", F, F, U),
    ("The photo appears to be genuine.", R, F, U),
    ("It is a computer-generated picture.", F, F, F),
    ("The face is AI-generated.", F, F, U),
    ("This is a deepfake.", F, F, F),
    ("It was altered.", F, F, U),
    ("The picture is unaltered.", R, F, U),
    ("not real", F, F, R),
    ("Not genuine.", F, F, U),
    ("not fake", R, F, F),
    ("The face is not fake.", R, F, F),
    ("This isn't real.", F, F, R),
    ("The image isn’t authentic.", F, F, U),
    ("It is neither fake nor manipulated.", R, F, F),
    ("no signs of forgery", R, F, U),
    ("There are no visible signs of manipulation.", R, F, U),
    ("I see no evidence that it is fake.", R, F, F),
    ("The picture shows clear signs of tampering.", F, F, U),
    ("Signs of blending: a seam below the brows.", F, F, U),
    ("There are no signs of swapping; the face is real.", R, F, R),
    ("The face is real, not fake.", R, F, R),
    ("It is fake, not real.", F, F, R),
    ("It looks real but it is fake.", F, F, R),
    ("Although it looks real, it is fake.", F, F, R),
    ("It seems fake; however, the image is real.", F, F, R),
    ("The shadows are unrealistic.", U, F, R),
    ("The skin is realistic.", U, F, R),
    ("The shadows are unrealistic. The image is fake.", F, F, R),
    ("It really looks fake.", F, F, R),
    ("Unlike real faces, this one is fake.", F, F, R),
    ("The eyes look like a real person's.", U, F, R),
    ("Is it real or fake?", U, F, R),
    ("real?", U, F, R),
    ("real or fake", U, F, R),
    ("real/fake", U, F, R),
    ("<real or fake>", U, F, R),
    ("I cannot tell whether it is real.", U, F, R),
    ("It could be fake.", U, F, F),
    ("If it were real, the pores would show.", U, F, R),
    ("It is real. It is fake.", R, F, R),
    ("The image is both real and fake.", U, F, R),
    ("probably fake", F, F, F),
    ("fake, I think", F, F, F),
    ("unknown", U, F, U),
    ("", U, F, U),
    ("Forgery type: None", U, F, U),
    ("Das Bild ist gefälscht.", U, F, U),
    ("L'image est fausse.", U, F, U),
    ("La imagen es irreal.", U, F, R),
    ("这张图片是假的。", U, F, U),
]


@pytest.mark.parametrize(("phrase", "ours", "ffaa", "m2f2_det"), TABLE)
def test_phrasings(phrase: str, ours: Verdict, ffaa: Verdict, m2f2_det: Verdict) -> None:
    assert read_statement(phrase) is ours
    assert published_ffaa(phrase) is ffaa
    assert published_m2f2_det(phrase) is m2f2_det


def test_the_table_is_large_and_every_phrase_stands_once() -> None:
    phrases = [row[0] for row in TABLE]
    assert len(set(phrases)) == len(phrases) >= 60


def test_published_readers_state_what_was_not_said() -> None:
    """Of the phrases that state a verdict, none is read the wrong way here; both published readers do that to some."""
    stated = [row for row in TABLE if row[1] is not U]
    wrong = {
        name: sum(reader(row[0]) not in (row[1], U) for row in stated) for name, reader in PUBLISHED_READERS.items()
    }
    assert (len(stated), wrong) == (48, {"ffaa": 20, "m2f2_det": 13})


@pytest.mark.parametrize(("phrase", "ours"), [(row[0], row[1]) for row in TABLE if "\n" not in row[0]])
def test_the_result_field_is_read_alike(phrase: str, ours: Verdict) -> None:
    assert parse(f"Image description: a\nForgery reasoning: b\nAnalysis result: {phrase}").verdict is ours


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert read_statement(text) in Verdict


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["real", "fake", "not", "but", "is", "no signs of forgery", ",", ".", "?", "or"])))
def test_turning_every_word_turns_the_verdict(words: list[str]) -> None:
    text = " ".join(word for word in words if word != "no signs of forgery")
    swapped = " ".join({"real": "fake", "fake": "real"}.get(word, word) for word in text.split(" "))
    opposite = {R: F, F: R, U: U}
    assert read_statement(swapped) is opposite[read_statement(text)]


@pytest.mark.parametrize(
    "piece", ["real ", "not ", "signs of ", "although ", "but ", "signs a b of c d ", "**", "like a "]
)
def test_long_hostile_texts_are_read_in_linear_time(piece: str) -> None:
    start = time.perf_counter()
    read_statement(piece * 50_000)
    assert time.perf_counter() - start < 1.0
