"""The door ``inference.py`` at size tiny, run in this process."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from ffaa.runtime import PROJECT_ROOT

FACE = PROJECT_ROOT / "playground/test_images/orl_s01_1.png"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["inference.py", "--model", "tiny", "--device", "cpu", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(PROJECT_ROOT / "inference.py"), run_name="__main__")
    return int(exit_info.value.code or 0)


def test_the_published_line_takes_the_test_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--crop", "1", "--visualize", "1", "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    pictures = sorted(path for path in FACE.parent.iterdir() if path.suffix in (".jpg", ".png"))
    assert [line for line in shown.splitlines() if line.endswith((".jpg", ".png")) and ":" not in line] == [
        str(path) for path in pictures
    ]
    assert shown.count("P(fake): 0.") == len(pictures)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{path.stem}_heat{number}.png" for path in pictures for number in (1, 2)
    ]


def test_json_is_all_there_is_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    assert run(monkeypatch, FACE, tmp_path / "black.png", tmp_path / "absent.png", "--json") == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["ok", "failed", "failed"]
    assert len(lines[0]["answers"]) == 3 and len(lines[0]["logits"]) == 3


def test_other_method_question_and_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, FACE, "--method", "llava", "--crop", "0", "--question", "Well?", "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["question"] == "Well?"
    assert run(monkeypatch, FACE, "--generate_num", "2", "--json", "1") == 0
    assert len(json.loads(capsys.readouterr().out)["answers"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.png"], "absent.png"),
        (["--method", "lava"], "llava"),
        ([str(FACE), "--question", "<image>?"], "<image>"),
        ([str(FACE), "--checkpoint", "absent"], "absent"),
        ([str(FACE), "--method", "llava", "--visualize"], "heat maps"),
        ([str(FACE), "--generate_num", "5"], "5"),
        ([str(FACE), "--seed", "-1"], "seed"),
        ([str(FACE), "--visualize", "--out", str(FACE)], "cannot make the folder"),
        ([str(FACE), "--config", str(FACE)], "not a text file"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert captured.out == "" and last.startswith("error: ") and said in last
