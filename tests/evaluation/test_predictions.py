from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ffaa.evaluation.predictions import LineWriter, mend, read_lines
from ffaa.types import InputError

LINES = [{"id": f"{i}.png", "label": "real", "status": "failed", "error": "no face é\u2028\udcff"} for i in range(3)]


ANSWER: dict[str, object] = {"verdict": "real", "hypothesis": "none", "finished": True, "score": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "predictions.jsonl"
    with LineWriter(file) as writer:
        for line in LINES:
            writer.write(line)
    return file


def test_lines_are_read_back(path: Path) -> None:
    assert read_lines(path) == LINES
    assert mend(path) == 0
    assert path.read_bytes().count(b"\n") == 3


def test_without_texts_all_else_is_as_it_was(tmp_path: Path) -> None:
    words = {"text": "t", "question": "q", "description": "d", "reasoning": "r"}
    file = tmp_path / "predictions.jsonl"
    done = {
        "id": "done.png", "label": "real", "status": "ok", "forgery_type": None, "verdict": "real", "score": 0.1,
        "chosen": 0, "difficulty": None, "answers": [{**ANSWER, **words}],
    }  # fmt: skip
    with LineWriter(file) as writer:
        for line in (done, LINES[0]):
            writer.write(line)
    assert read_lines(file, texts=False) == [{**done, "answers": [ANSWER]}, LINES[0]]


def test_each_line_is_one_system_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    real_write = os.write

    def write(file: int, data: bytes) -> int:
        calls.append(data)
        return real_write(file, data)

    monkeypatch.setattr(os, "write", write)
    with LineWriter(path) as writer:
        writer.write({"id": "x"})
    assert calls == [b'{"id": "x"}\n']


def test_a_file_cut_anywhere_is_mended_to_whole_lines(path: Path) -> None:
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for size in range(0, len(data), 3):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        assert [line["id"] for line in read_lines(path)] == [line["id"] for line in LINES[:whole]]
        assert mend(path) == size - ([0, *ends][whole])
        with LineWriter(path) as writer:
            for line in LINES[whole:]:
                writer.write(line)
        assert path.read_bytes() == data


def test_a_last_line_whose_content_was_lost_is_cut_off(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data + b"\0" * 40 + b"\n")
    assert read_lines(path) == LINES
    assert mend(path) == 41
    assert path.read_bytes() == data


def test_mending_what_is_not_there(tmp_path: Path) -> None:
    assert mend(tmp_path / "none") == 0
    (tmp_path / "empty").touch()
    assert mend(tmp_path / "empty") == 0
    assert read_lines(tmp_path / "empty") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: not JSON"),
        (b"[]", "line 2: not a prediction"),
        (b'{"id": "a", "status": "failed"}', "line 2: not a prediction, label missing"),
        (b'{"id": "a", "label": "real", "status": "ok"}', "line 2: not a prediction, answers, chosen"),
        (json.dumps(LINES[0]).encode(), "line 2: the picture '0.png' has a line already"),
    ],
)
def test_a_damaged_line_in_the_middle_is_named(path: Path, line: bytes, message: str) -> None:
    rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([rows[0], line, *rows[1:]]))
    with pytest.raises(InputError, match=message):
        read_lines(path)


def test_no_predictions_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_lines(tmp_path / "predictions.jsonl")


def test_a_full_disk_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = path.read_bytes()
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: real_write(file, line[:5]))
    with LineWriter(path) as writer, pytest.raises(InputError, match="disk is full"):
        writer.write({"id": "x"})
    assert path.read_bytes() == data


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_without_space() -> None:
    with LineWriter(Path("/dev/full")) as writer, pytest.raises(InputError, match="No space left on device"):
        writer.write({"id": "x"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 5}, {"label": "maybe"}, {"status": "done"}, {"verdict": ["real"]}, {"score": "x"}, {"score": 7},
        {"score": None}, {"chosen": 1}, {"probability": 0.5}, {"probability": "0.9", "uncertain": True},
        {"uncertain": "no", "probability": 0.5}, {"answers": "abc"}, {"difficulty": 3},
        {"forgery_type": 4}, {"match_scores": ["a"]}, {"match_scores": 0.5}, {"match_scores": [float("nan")]},
    ],
)  # fmt: skip
def test_fields_that_no_run_writes_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    line = {"id": "a", "label": "real", "status": "ok", "forgery_type": None, "verdict": "real", "score": 0.2,
            "chosen": 0, "difficulty": "easy", "answers": [dict(ANSWER)]}  # fmt: skip
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps(line) + "\n")
    assert read_lines(file) == [line]
    file.write_text(json.dumps({**line, **wrong}) + "\n")
    with pytest.raises(InputError, match=f"line 1: not a prediction, {next(iter(wrong))} is"):
        read_lines(file)


@pytest.mark.parametrize(
    "change",
    [
        {"finished": None}, {"score": "high"}, {"score": 2}, {"hypothesis": "maybe"}, "score", {"text": 5},
        {"question": ["x"]}, {"forgery_type": 1},
    ],
)  # fmt: skip
def test_an_answer_that_no_run_writes_is_named(change: dict[str, object] | str, tmp_path: Path) -> None:
    answer = dict(ANSWER)
    line: dict[str, object] = {"id": "a", "label": "real", "status": "ok", "forgery_type": None}
    line |= {"verdict": "real", "score": 0.5}
    line |= {"chosen": 0, "difficulty": None, "answers": [answer]}
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps(line) + "\n")
    assert len(read_lines(path)) == 1
    if isinstance(change, str):
        del answer[change]
    else:
        answer |= change
    path.write_text(json.dumps(line) + "\n")
    name = change if isinstance(change, str) else next(iter(change))
    with pytest.raises(InputError, match=f"jsonl, line 1: not a prediction, {name} of answer 1 is"):
        read_lines(path)
    path.write_text(json.dumps({**line, "answers": ["real"]}) + "\n")
    with pytest.raises(InputError, match="line 1: not a prediction, all of answer 1 is 'real'"):
        read_lines(path)


def test_a_line_nested_too_deep_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text("[" * 100_000 + "\n" + "{}\n")
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_lines(path)
