"""Groups of people by estimates, and what metadata may say instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ffaa.evaluation.attributes import Attributes, in_order, of_one_person, read_metadata
from ffaa.types import InputError


def test_one_person_is_in_one_group() -> None:
    person = of_one_person([Attributes(20, 0.1, None), Attributes(50, 0.9, 30.0), Attributes(31, 0.3, 50.0)])
    assert person == Attributes(31, 0.3, 40.0)
    assert person.groups() == {"sex": "female", "age": "30 to 44", "skin as photographed": "medium"}
    assert of_one_person([Attributes(29.9, 0.9, None)]).groups() == {"sex": "male", "age": "under 30"}
    assert Attributes(45.0, 0.5, 41.0).groups() == {
        "sex": "female", "age": "45 and over", "skin as photographed": "light",
    }  # fmt: skip


def test_groups_are_shown_from_young_to_old_and_dark_to_light() -> None:
    assert in_order(["under 30", "none", "45 and over", "beard", "30 to 44"]) == [
        "under 30", "30 to 44", "45 and over", "beard", "none",
    ]  # fmt: skip
    assert in_order({"light", "medium", "dark or shaded"}) == ["dark or shaded", "medium", "light"]


@pytest.mark.parametrize(
    "values",
    [(float("nan"), 0.5, None), (-1, 0.5, None), (30, 7, None), (30, 0.5, 900.0), (None, 0.5, None), ("30", 1, 1)],
)
def test_estimates_are_numbers_that_can_be(values: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ValueError, match="must be a number from"):
        Attributes(*values)


def test_metadata(tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    people = {
        "a.png": {"sex": "female", "age": 34, "region": None, "glasses": True},
        "b.png": {"age": "adult", "tone": 5},
    }
    file.write_text(json.dumps(people | {"failed.png": {"sex": "male"}}))
    assert read_metadata(file, ["a.png", "b.png", "c.png"]) == {
        "a.png": {"sex": "female", "age": "30 to 44", "glasses": "yes"},
        "b.png": {"age": "adult", "tone": "5"},
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a JSON file"),
        ("[]", "got a list"),
        ("{}", "names no picture"),
        ('{"z.png": {"sex": "male"}}', "names no picture"),
        ('{"a.png": "male"}', "mapping of attributes"),
        ('{"a.png": {"sex": ["male"]}}', "sex must be a text"),
        ('{"a.png": {"age": -3}}', "age must be from 0 to 150"),
        ('{"a.png": {"age": NaN}}', "age must be from 0 to 150"),
        ('{"a.png": {"age": 1e999}}', "age must be from 0 to 150"),
    ],
)
def test_wrong_metadata(content: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    file.write_text(content)
    with pytest.raises(InputError, match=reason):
        read_metadata(file, ["a.png"])
    with pytest.raises(InputError, match="no such file"):
        read_metadata(tmp_path / "none.json", ["a.png"])
