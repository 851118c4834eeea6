from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.metrics import text_overlap
from ffaa.metrics.text_overlap import MissingLibraryError, bleu, cider, derangement, meteor, overlap, rouge_l

WORDS = "a seam runs below the brows of this face No signs of forgery, soft light and closed lips it's 2 eyes".split()


def texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(0, 14))) for _ in range(n)]


def test_rouge_l_equals_rouge_score() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    for candidate, reference in zip(texts(200, 0), texts(200, 1), strict=True):
        expected = scorer.score(reference, candidate)["rougeL"].fmeasure
        assert rouge_l([candidate], [[reference]]) == pytest.approx(expected)


def test_rouge_l_by_hand() -> None:
    # "a c d" of "a b c d": 3 in common, twice that over 3 + 4
    assert rouge_l(["A c, d!"], [["a b c d"]]) == pytest.approx(6 / 7)
    assert rouge_l(["x", ""], [["y", "x"], ["a"]]) == 0.5
    assert rouge_l([], []) is None


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_equals_sacrebleu(order: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    candidates, first, second = texts(50, 2), texts(50, 3), texts(50, 4)
    expected = sacrebleu.metrics.BLEU(max_ngram_order=order).corpus_score(candidates, [first, second]).score / 100
    references = [list(pair) for pair in zip(first, second, strict=True)]
    assert bleu(order)(candidates, references) == pytest.approx(expected)
    # Pictures may have different numbers of references.
    assert bleu(order)(["a b c d e"] * 2, [["a b c d e"], ["x", "a b c d e"]]) == pytest.approx(1.0)
    assert bleu(order)([], []) is None


def test_bleu_1_by_hand() -> None:
    pytest.importorskip("sacrebleu")
    # three of four words, and the reference is not longer
    assert bleu(1)(["a b c x"], [["a b c d"]]) == pytest.approx(0.75)


def test_cider_by_hand() -> None:
    """Two pictures without a word in common: every n-gram weighs log 2, so that weights cancel in the cosine."""
    references = [["a b c d"], ["e f g h"]]
    assert cider(["a b c d", "e f g h"], references) == pytest.approx(10.0)
    # "a b": n = 1: 2 of 2 against 4, 1/sqrt 2; n = 2: 1 of 1 against 3, 1/sqrt 3; two words too few
    one = (1 / math.sqrt(2) + 1 / math.sqrt(3)) / 4 * math.exp(-4 / 72) * 10
    assert cider(["a b", "x"], references) == pytest.approx(one / 2)
    # A count above the reference's is clipped: "a a" weighs 2, of which 1 counts; norms 2 and 2, one word too few.
    assert cider(["a a", ""], [["a b c"], ["e f"]]) == pytest.approx(
        10 * (1 / (2 * math.sqrt(3))) / 4 * math.exp(-1 / 72) / 2
    )
    # What all references say weighs nothing.
    assert cider(["a", "a"], [["a"], ["a"]]) == 0.0
    assert cider(["a"], [["a"]]) is cider([], []) is None


@pytest.mark.parametrize(
    ("seed", "expected"), [(0, 0.3363285227549274), (1, 0.3629270128030692), (2, 0.3574345226313797)]
)
def test_cider_is_what_pycocoevalcap_1_2_gives(seed: int, expected: float) -> None:
    """Its scorer of the same words, two references a picture."""
    references = [list(pair) for pair in zip(texts(40, seed + 50), texts(40, seed + 90), strict=True)]
    assert cider(texts(40, seed), references) == pytest.approx(expected)


def test_cider_of_several_references_is_their_mean() -> None:
    references = [["a b c d", "x y z w"], ["e f g h"]]
    assert cider(["a b c d", ""], references) == pytest.approx(10.0 / 2 / 2)


def test_absent_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_overlap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"sacrebleu is not installed: pip install 'ffaa\[metrics\]'"):
        bleu(4)(["a"], [["a"]])
    found = overlap(["a b", "c"], [["a b"], ["c"]])
    assert set(found["scores"]) == {"rouge_l", "cider"} and "nltk is not installed" in found["skipped"]["meteor"]


def test_meteor_is_a_number_or_says_what_is_missing() -> None:
    pytest.importorskip("nltk")
    try:
        assert 0.9 < (meteor(["a seam below the brows"], [["a seam below the brows"]]) or 0) <= 1
    except MissingLibraryError as error:
        assert "wordnet" in str(error)


def test_templates_flatter() -> None:
    """Answers of one template that differ in one word share most with the answers of other pictures too."""
    parts = ["eyes", "nose", "mouth", "brows"] * 5
    answers = [f"Signs of retouching: {part} enlarged, in the lower half." for part in parts]
    found = overlap(answers, [[answer] for answer in answers], {"rouge_l": rouge_l, "cider": cider})
    rouge = found["scores"]["rouge_l"]
    assert rouge["value"] == 1.0 and rouge["constant"] > 0.85 and rouge["shuffled"] > 0.85
    spread = found["scores"]["cider"]
    assert spread["value"] == pytest.approx(10.0) and spread["constant"] < 5


@given(st.integers(0, 40), st.integers(0, 5))
def test_no_thing_stands_at_its_own_place(n: int, seed: int) -> None:
    order = derangement(n, seed)
    assert sorted(order) == list(range(n)) and (n < 2 or all(at != place for at, place in enumerate(order)))


def test_texts_and_references_belong_together() -> None:
    wrong: list[list[list[str]]] = [[], [[]]]
    for references in wrong:
        with pytest.raises(ValueError, match="at least one reference"):
            rouge_l(["a"], references)
    assert overlap([], []) == {
        "n": 0,
        "scores": {name: {"value": None, "constant": None, "shuffled": None} for name in overlap([], [])["scores"]},
        "skipped": overlap([], [])["skipped"],
    }
