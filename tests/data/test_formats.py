"""The published files: read as they are, and each wrong entry named by file and index."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ffaa.data.formats import examine_training_set, read_training_set
from ffaa.data.images import inside
from ffaa.data.records import write_records
from ffaa.runtime import sha256_file
from ffaa.types import InputError, Record
from tests.data import published

CONVERSATION = {"id": "a", "image": "a.png", "conversations": published.turns()}
GOOD_ANSWER = {"content": "", "result": "real", "label": 0}


def test_conversations_are_read_and_labelled_by_their_answer(tmp_path: Path) -> None:
    file = published.conversations(tmp_path / "ffd_vqa_20k")
    found = read_training_set(file, "records.jsonl")
    assert (found.file, found.root, found.sha256) == (file, file.parent, sha256_file(file))
    assert [record.label for record in found.records] == ["real", "fake", "real", "fake"]
    first, second = found.records[:2]
    assert (second.id, second.image, second.forgery_type) == ("s1", "images/1.png", "Identity swap")
    assert [turn["from"] for turn in first.conversations] == ["human", "gpt"]


def test_a_first_turn_that_is_not_the_human_s_is_dropped_and_an_id_may_be_missing(tmp_path: Path) -> None:
    greeting = {"from": "gpt", "value": "Hello."}
    file = published.write(
        tmp_path / "a.json",
        [{"image": "a.png", "conversations": [greeting, *published.turns()]}, {**CONVERSATION, "id": 7}],
    )
    first, second = read_training_set(file, "records.jsonl").records
    assert [turn["from"] for turn in first.conversations] == ["human", "gpt"]
    assert (first.id, second.id) == ("0", "7")


def test_pictures_stand_in_the_image_folder_where_one_is_given(tmp_path: Path) -> None:
    file = published.conversations(tmp_path / "vqa")
    found = read_training_set(file, "records.jsonl", tmp_path / "elsewhere")
    assert inside(found.root, found.records[0].image) == tmp_path / "elsewhere/images/0.png"


def test_answers_are_read_with_pictures_at_the_path_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published.selections(tmp_path / "LLaVA_answers", tmp_path / "faces")
    found = read_training_set(file, "answers.jsonl")
    assert [record.label for record in found.records] == ["real", "fake", "real", "fake"]
    assert [answer["label"] for answer in found.records[1].answers] == [2, 3, 3]
    assert inside(found.root, found.records[3].image) == tmp_path / "faces/3.png"
    monkeypatch.chdir(tmp_path / "faces")
    for written in ("2.png", "../faces/2.png"):
        file = published.selections(tmp_path, tmp_path / "faces", image=written)
        (last,) = read_training_set(file, "answers.jsonl").records[3:]
        assert inside(Path(os.sep), last.image) == tmp_path / "faces/2.png"


def test_answers_in_an_image_folder_do_not_leave_it(tmp_path: Path) -> None:
    for written, said in (("3.png", ""), ("/3.png", "is absolute"), ("../3.png", "leaves the folder")):
        items = [{"image": written, "cls_label": 0, "answers": []}]
        found = examine_training_set(published.write(tmp_path / "a.json", items), "answers.jsonl", tmp_path / "faces")
        assert bool(found.problems) == bool(said) and said in "".join(found.problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": None}, "'image' must be a path, got null"),
        ({"image": "../a.png"}, "leaves the folder"),
        ({"image": "/a.png"}, "is absolute"),
        ({"id": True}, "'id' must be a text or a number, got true"),
        ({"id": ""}, "'id' must be"),
        ({"conversations": "x"}, "'conversations' must be a list of human and gpt turns"),
        ({"conversations": [{"from": "user", "value": ""}]}, "'conversations' must be"),
        ({"conversations": []}, "states no verdict"),
        ({"conversations": published.turns("It is fake.")}, "states no verdict"),
    ],
)
def test_a_wrong_conversation_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = published.write(tmp_path / "a.json", [CONVERSATION, CONVERSATION | change])
    with pytest.raises(InputError, match=said) as caught:
        read_training_set(file, "records.jsonl")
    assert str(caught.value).startswith(f"{file}: record 1: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cls_label": 2}, "'cls_label' must be 0 .real. or 1 .fake., got 2"),
        ({"cls_label": True}, "'cls_label' must be"),
        ({"cls_label": "fake"}, "'cls_label' must be"),
        ({"image": 3}, "'image' must be a path, got 3"),
        ({"image": ""}, "'image' must be a path"),
        ({"image": "a\0.png"}, "names no file"),
        ({"image": "../a\0.png"}, "null byte"),
        ({"answers": {}}, "'answers' must be a list"),
        ({"answers": [GOOD_ANSWER, {**GOOD_ANSWER, "result": "unsure"}]}, "answer 1 must be"),
        ({"answers": [{**GOOD_ANSWER, "label": 4}]}, "answer 0 must be"),
        ({"answers": [{**GOOD_ANSWER, "label": -1}]}, "answer 0 must be"),
        ({"answers": [{"result": "real", "label": 0}]}, "answer 0 must be"),
    ],
)
def test_a_wrong_selection_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = published.selections(tmp_path, tmp_path, **change)
    with pytest.raises(InputError, match=said) as caught:
        read_training_set(file, "answers.jsonl")
    assert str(caught.value).startswith(f"{file}: record 3: ")


def test_all_wrong_entries_are_counted_and_the_first_is_said(tmp_path: Path) -> None:
    file = published.write(tmp_path / "a.json", [CONVERSATION, 5, [], CONVERSATION])
    found = examine_training_set(file, "records.jsonl")
    assert len(found.records) == 2 and len(found.problems) == 2
    with pytest.raises(InputError, match=r"record 1: an object expected, got a int \(1 more of its entries are wrong"):
        read_training_set(file, "records.jsonl")


def test_our_own_records_are_read_from_a_folder_or_a_file(tmp_path: Path) -> None:
    records = [Record("1", "a.png", "real"), Record("2", "b.png", "fake")]
    write_records(tmp_path / "records.jsonl", records)
    for data in (tmp_path, tmp_path / "records.jsonl"):
        found = read_training_set(data, "records.jsonl")
        assert (found.records, found.root, found.file) == (records, tmp_path, tmp_path / "records.jsonl")
    (tmp_path / "records.jsonl").write_text('{"id": "1", "image": "a.png", "label": "real"}\n{"id": \n[]\n')
    with pytest.raises(InputError, match=r"records\.jsonl:2: .* \(1 more"):
        read_training_set(tmp_path, "records.jsonl")


def test_a_json_file_broken_in_the_middle_is_named_with_its_line(tmp_path: Path) -> None:
    text = json.dumps([CONVERSATION, CONVERSATION], indent=1)
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"a\.json:\d+: not JSON"):
        read_training_set(tmp_path / "a.json", "records.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [("[" * 100_000, "not JSON"), ("{}", "a list of records expected, got a dict"), ("[]", "has no records")],
)
def test_files_that_hold_no_list_of_records(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_training_set(tmp_path / "a.json", "records.jsonl")


def test_places_that_hold_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*absent/records\.jsonl"):
        read_training_set(tmp_path / "absent", "records.jsonl")
    with pytest.raises(InputError, match=r"no such file: .*absent\.json"):
        read_training_set(tmp_path / "absent.json", "records.jsonl")
    file = published.conversations(tmp_path)
    with pytest.raises(InputError, match=r"give its path \(ffd_vqa_hypothesis\.json is there\)"):
        read_training_set(tmp_path, "records.jsonl")
    with pytest.raises(InputError, match="neither a folder nor"):
        read_training_set(file.rename(tmp_path / "data.txt"), "records.jsonl")
    write_records(tmp_path / "records.jsonl", [Record("1", "a.png", "real")])
    with pytest.raises(InputError, match="image_folder is for published"):
        read_training_set(tmp_path, "records.jsonl", tmp_path)


def test_the_file_stands_before_what_is_wrong_with_a_record(tmp_path: Path) -> None:
    found = read_training_set(published.conversations(tmp_path), "records.jsonl")
    assert found.each(lambda record: record.id) == ["s0", "s1", "s2", "s3"]

    def refuse(record: Record) -> None:
        raise InputError(f"no {record.id}")

    with pytest.raises(InputError, match=r"ffd_vqa_hypothesis\.json: no s0"):
        found.each(refuse)
