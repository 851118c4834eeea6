"""What is missing is listed whole before a training starts; what does not open is found by the validator."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffaa.data.formats import TrainingSet, read_training_set
from ffaa.data.preflight import MISSING_FILE, broken_pictures, missing_files, require_files
from ffaa.types import InputError, Record
from tests.data import published


def a_set(root: Path, *records: Record) -> TrainingSet:
    return TrainingSet(root / "r.jsonl", root, list(records), [], "")


def test_all_missing_pictures_are_listed(tmp_path: Path) -> None:
    sets = [read_training_set(published.conversations(tmp_path / name, 8), "") for name in ("train", "val")]
    gone = [tmp_path / "train/images/3.png", *(tmp_path / f"val/images/{index}.png" for index in range(4))]
    for path in gone:
        path.unlink()
    listing = tmp_path / "out" / MISSING_FILE
    with pytest.raises(InputError) as caught:
        require_files(sets, tmp_path / "out")
    assert listing.read_text().splitlines() == [str(path) for path in gone]
    named = ", ".join(str(path) for path in gone[:3])
    assert str(caught.value) == (
        f"5 files that 16 records name are not there: {named}, ... (all are listed in {listing})"
    )
    for path in gone:
        published.picture(path)
    require_files(sets, tmp_path / "out")
    assert not listing.exists()


def test_masks_and_originals_count_too(tmp_path: Path) -> None:
    published.picture(tmp_path / "a.png")
    record = Record("1", "a.png", "fake", masks=("m.png", "a.png"), source_image="s.png")
    assert missing_files(a_set(tmp_path, record), record) == [tmp_path / "m.png", tmp_path / "s.png"]


def test_pictures_that_do_not_open_are_named_by_record(tmp_path: Path) -> None:
    whole = published.picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    names = ("whole", "cut", "empty", "text", "absent")
    records = [Record(name, f"{name}.png", "real") for name in names]
    records.append(Record("two", "cut.png", "fake", masks=("empty.png",)))
    found = list(broken_pictures(a_set(tmp_path, *records), workers=2))
    said = ["", "damaged or truncated", "the file is empty", "not a picture", "no such file"]
    assert [len(problems) for problems in found] == [0, 1, 1, 1, 1, 2]
    for name, problems, reason in zip(names[1:], found[1:], said[1:], strict=False):
        assert problems[0].startswith(f"{tmp_path / 'r.jsonl'}: record {name!r}: ") and reason in problems[0]
