from __future__ import annotations

from typing import Any

import pytest

from ffaa.metrics.explanation import claim_accuracy, hypothesis_effect, naming, opening_bias, variety


def line(label: str, free: str, real: str, fake: str, opening: float | None = None) -> dict[str, Any]:
    said = {"none": free, "real": real, "fake": fake}
    answers: list[dict[str, Any]] = [{"hypothesis": name, "verdict": verdict} for name, verdict in said.items()]
    answers[0]["opening_score"] = opening
    return {"label": label, "answers": answers}


def test_claims_are_counted_where_something_is_true() -> None:
    claimed: list[dict[str, str | None]] = [{"light": "dim"}, {"light": None}, {"light": "bright"}, {"light": "dim"}]
    true: list[dict[str, str | None]] = [{"light": "dim"}, {"light": "dim"}, {"light": "dim"}, {"light": None}]
    figures = claim_accuracy(claimed, true, ["light"])["light"]
    assert (figures["n_correct"], figures["n"], figures["majority"]) == (1, 3, 1.0)
    none = claim_accuracy([], [], ["light"])["light"]
    assert (none["accuracy"], none["majority"]) == (None, None)


def test_naming_counts_names_on_any_picture_against_precision() -> None:
    true = ["eyes", "eyes", "nose", None, None]
    claimed = ["eyes", None, "eyes", "mouth", None]
    figures = naming(claimed, true)
    assert (figures["precision"]["n_correct"], figures["precision"]["n"]) == (1, 3)
    assert (figures["recall"]["n_correct"], figures["recall"]["n"]) == (1, 3)
    assert {part: figure["accuracy"] for part, figure in figures["by_part"].items()} == {"eyes": 0.5, "nose": 0.0}
    assert figures["most_frequent"] == pytest.approx(2 / 3) and figures["chance"] == 0.5


def test_nothing_edited_and_nothing_named_is_undefined() -> None:
    figures = naming([None], [None])
    assert figures["precision"]["accuracy"] is None and figures["recall"]["accuracy"] is None
    assert figures["most_frequent"] is None and figures["chance"] is None and figures["by_part"] == {}


def test_hypotheses_flip_right_answers_and_mend_wrong_ones() -> None:
    lines = [
        line("real", "real", "real", "real"),
        line("real", "real", "real", "fake"),  # flipped by the wrong presumption
        line("fake", "fake", "real", "fake"),  # flipped
        line("fake", "real", "real", "fake"),  # mended by the truth
        line("fake", "real", "fake", "real"),  # the truth does not mend it
        line("fake", "unparsed", "real", "real"),
    ]
    effect = hypothesis_effect([*lines, {"label": "real", "answers": lines[0]["answers"][:1]}])
    assert (effect["wrong_flips"]["n_correct"], effect["wrong_flips"]["n"]) == (2, 3)
    assert (effect["right_mends"]["n_correct"], effect["right_mends"]["n"]) == (1, 3)
    assert (effect["disagree"]["n_correct"], effect["disagree"]["n"]) == (5, 6)


def test_variety() -> None:
    figures = variety(["a b c", "a b c", "a d"])
    assert (figures["n"], figures["n_different"]) == (3, 2)
    assert figures["distinct_1"] == 4 / 8 and figures["distinct_2"] == 3 / 5 and figures["distinct_3"] == 1 / 2
    assert variety([])["distinct_1"] is None


def test_the_bias_of_the_opening() -> None:
    lines = [line("fake", "fake", "fake", "fake", 0.75), line("real", "real", "real", "real", 0.75)]
    assert opening_bias(lines) == pytest.approx(0.25)
    assert opening_bias([line("real", "real", "real", "real")]) is None
