"""Training records, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.data.records import read_records, write_records
from ffaa.types import InputError, Record

FULL = Record(
    id="1",
    image="img/a.png",
    label="fake",
    forgery_type="Identity swap",
    group="person 7",
    task="analysis",
    conversations=({"from": "human", "value": "<image>\nReal?"}, {"from": "gpt", "value": "No.\u2028Fake."}),
    answers=({"content": "…", "result": "real", "label": 2, "score": 0.5},),
    source_image="img/b.png",
    masks=("masks/a.png",),
    regions=("nose",),
    box=(0.5, 1, 20, 30.25),
    extra={"seed": 3, "nested": {"list": [1, 2]}},
)


def test_round_trip(tmp_path: Path) -> None:
    records = [FULL, Record(id="2", image="b.png", label="real")]
    write_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records
    lines = (tmp_path / "r.jsonl").read_text().split("\n")
    assert json.loads(lines[1]) == {"id": "2", "image": "b.png", "label": "real"}


@given(text=st.text(st.characters(exclude_categories=["Cs"])), number=st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str, number: float) -> None:
    file = tmp_path_factory.mktemp("records") / "r.jsonl"
    record = Record("x", "a.png", "real", conversations=({"from": "gpt", "value": text},), extra={"n": number, text: 1})
    write_records(file, [record, record])
    assert read_records(file) == [record, record]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"id": 5}, "'id' must be a text, got 5"),
        ({"id": ""}, "'id' must be"),
        ({"image": None}, "'image' must be"),
        ({"image": "../a.png"}, "leaves the folder"),
        ({"image": "/a.png"}, "is absolute"),
        ({"image": "link.png"}, "by a symbolic link"),
        ({"masks": ["../m.png"]}, "leaves the folder"),
        ({"source_image": "/s.png"}, "is absolute"),
        ({"label": "Fake"}, "'label' must be"),
        ({"label": ["fake"]}, "'label' must be"),
        ({"task": None}, "'task' must be"),
        ({"conversations": {}}, "'conversations' must be"),
        ({"conversations": [{"from": "user", "value": ""}]}, "'conversations' must be"),
        ({"conversations": [{"from": "gpt"}]}, "'conversations' must be"),
        ({"answers": [{"content": "", "result": "real", "label": 4}]}, "'answers' must be"),
        ({"answers": [{"content": "", "result": "real", "label": True}]}, "'answers' must be"),
        ({"answers": [{"content": "", "result": [], "label": 0}]}, "'answers' must be"),
        ({"answers": ["text"]}, "'answers' must be"),
        ({"regions": "nose"}, "'regions' must be"),
        ({"box": [1, 2, 3]}, "'box' must be"),
        ({"box": [5, 0, 1, 1]}, "'box' must be"),
        ({"box": [0, 0, 1, float("inf")]}, "'box' must be"),
        ({"extra": []}, "'extra' must be"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "a.png")
    good = {"id": "1", "image": "a.png", "label": "real"}
    file = tmp_path / "data" / "r.jsonl"
    file.write_text(f"{json.dumps(good)}\n\n{json.dumps({**good, **change})}\n")
    with pytest.raises(InputError, match=message) as caught:
        read_records(file)
    assert str(caught.value).startswith(f"{file}:3: ")


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"id": "1", "label": "real"}', "[" * 100_000])
def test_lines_that_are_no_records(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"r\.jsonl:1: "):
        read_records(tmp_path / "r.jsonl")


def test_files_without_records(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n \n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    for name, message in (
        ("empty.jsonl", "no records"),
        ("absent.jsonl", "no such file"),
        ("binary.jsonl", "cannot read"),
    ):
        with pytest.raises(InputError, match=message):
            read_records(tmp_path / name)


def test_files_can_be_asked_for(tmp_path: Path) -> None:
    write_records(tmp_path / "r.jsonl", [Record("1", "a.png", "real", masks=("m.png",))])
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"'m\.png' is not there"):
        read_records(tmp_path / "r.jsonl", files_must_exist=True)
    (tmp_path / "m.png").touch()
    assert len(read_records(tmp_path / "r.jsonl", files_must_exist=True)) == 1


def test_bad_records_are_not_written(tmp_path: Path) -> None:
    good = Record("1", "a.png", "real")
    for bad in (
        Record("1", "../a.png", "real"),
        Record("1", "a.png", "unknown"),
        Record("1", "a.png", "real", extra={"x": float("nan")}),
        Record("1", "a.png", "real", extra={"x": object()}),
    ):
        with pytest.raises(InputError, match="r.jsonl:2: "):
            write_records(tmp_path / "r.jsonl", [good, bad])
    with pytest.raises(InputError, match="no records to write"):
        write_records(tmp_path / "r.jsonl", [])
    assert list(tmp_path.iterdir()) == []
