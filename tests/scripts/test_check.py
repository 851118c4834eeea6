"""The validator of a training set: every problem by record, and exit code 2 where there is one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.data import check
from tests.data import published


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["check.py", *map(str, arguments)])
    return check.main()


def test_a_sound_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = published.conversations(tmp_path)
    assert run(monkeypatch, "--data", file) == 0
    assert capsys.readouterr().out == f"{file}: 4 records, 0 problems\n"
    file = published.selections(tmp_path, tmp_path / "images")
    assert run(monkeypatch, "--data", file, "--stage", "mids", "--model", "tiny") == 0


def test_every_problem_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published.conversations(tmp_path)
    items = json.loads(file.read_text())
    items[1]["conversations"] *= 2
    items[2]["image"] = "../2.png"
    (tmp_path / "images/0.png").write_bytes((tmp_path / "images/0.png").read_bytes()[:60])
    (tmp_path / "images/3.png").unlink()
    published.write(file, items)
    assert run(monkeypatch, "--data", file, "--workers", 2) == 2
    lines = capsys.readouterr().out.splitlines()
    said = (
        "record 2: '../2.png' leaves",
        "record 's0': the picture is d",
        "record 's1' has turns",
        "no such file",
    )
    assert len(lines) == 5 and all(text in line for text, line in zip(said, lines, strict=False))
    assert lines[-1] == f"{file}: 3 records, 4 problems"


def test_labels_of_answers_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [{"content": "", "result": "real", "label": 0}] * 3
    file = published.selections(tmp_path, tmp_path / "images", answers=answers)
    assert run(monkeypatch, "--data", file, "--stage", "mids", "--model", "tiny") == 2
    assert "record '3', answer 0: label 0 for a fake picture" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--stage", "projector"), "stage is mllm or mids"), (("--workers", 0), "workers must be at least 1")],
)
def test_what_it_cannot_do(
    arguments: tuple[object, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--data", tmp_path, *arguments)
    assert said in capsys.readouterr().err
