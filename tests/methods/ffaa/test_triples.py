"""Labelling of answer triples for MIDS."""

from __future__ import annotations

from ffaa.methods.ffaa.triples import label_triples
from ffaa.types import Record


def triple(*results: str) -> list[dict[str, str]]:
    return [{"content": f"Analysis result: {result}", "result": result} for result in results]


RECORDS = [
    Record(id=name, image=f"{name}.png", label=label) for name, label in (("a", "real"), ("b", "fake"), ("c", "fake"))
]


def test_labels_follow_the_published_table() -> None:
    answers = {
        "a": triple("real", "fake", "real"),
        "b": triple("real", "fake", "real"),
        "c": triple("fake", "real", "fake"),
    }
    kept, counts = label_triples(RECORDS, answers, keep_equal=0.0, seed=0)
    assert [[answer["label"] for answer in record.answers] for record in kept] == [[0, 1, 0], [2, 3, 2], [3, 2, 3]]
    assert counts["hard"] == 3


def test_equal_verdicts_are_dropped_or_kept_by_share() -> None:
    answers = {name: triple("fake", "fake", "fake") for name in "abc"}
    assert label_triples(RECORDS, answers, keep_equal=0.0, seed=0)[0] == []
    assert len(label_triples(RECORDS, answers, keep_equal=1.0, seed=0)[0]) == 3


def test_unparsed_triples_are_dropped_and_counted() -> None:
    answers = {
        "a": triple("real", "unparsed", "real"),
        "b": triple("real", "fake", "real"),
        "c": triple("fake", "real", "fake"),
    }
    kept, counts = label_triples(RECORDS, answers, keep_equal=1.0, seed=0)
    assert [record.id for record in kept] == ["b", "c"]
    assert counts["unparsed"] == 1
