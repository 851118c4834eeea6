from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ffaa.runtime import EXIT_DONE
from ffaa.types import InputError
from scripts import robustness
from scripts.report import read_curves
from tests.evaluation.toy import make_benchmark


def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    told = [
        "--model=tiny", "--dtype=float32", "--max_new_tokens=4", "--device=cpu", "--benchmark=toy_two",
        f"--benchmark_root={tmp_path / 'benchmark'}", f"--result_root={tmp_path / 'results'}", *arguments,
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["robustness.py", *told])
    return robustness.main()


def test_a_sweep_writes_curves_that_a_second_call_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_benchmark(tmp_path / "benchmark", 4, "toy_two")
    assert call(tmp_path, monkeypatch, "--corruptions=jpeg,noise", "--levels=1,5") == EXIT_DONE
    (out,) = (tmp_path / "results" / "toy_two").glob("robustness-ffaa-tiny-*")
    found = json.loads((out / "robustness.json").read_text())
    assert list(found) == ["jpeg", "noise"] and found["jpeg"]["levels"] == [0, 1, 5]
    assert found["jpeg"]["values"] == [None, 90, 10]
    assert len(found["noise"]["acc"]) == len(found["noise"]["auc"]) == len(found["noise"]["auc_interval"]) == 3
    assert found["jpeg"]["acc"][0] == found["noise"]["acc"][0]
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| ACC | none | level 1 | level 5 |" in printed and "| noise | " in printed
    # Four corruptions and the clean pictures, a folder each; a second call analyses nothing anew.
    folders = sorted(path.parent for path in (tmp_path / "results" / "toy_two").glob("*/predictions.jsonl"))
    assert len(folders) == 5
    before = [(folder / "predictions.jsonl").stat().st_mtime_ns for folder in folders]
    assert call(tmp_path, monkeypatch, "--corruptions=jpeg,noise", "--levels=1,5") == EXIT_DONE
    assert before == [(folder / "predictions.jsonl").stat().st_mtime_ns for folder in folders]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--corruptions=jpg", "no corruption 'jpg'.*jpeg"),
        ("--corruptions=", "no corruption given"),
        ("--corruptions= , ", "no corruption given"),
        ("--levels=0", "from 1 to 5"),
        ("--levels=", "from 1 to 5"),
        ("--benchmark=a,b", "give one benchmark"),
    ],
)
def test_bad_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path, monkeypatch, argument)


def test_several_processes_are_refused_before_anything_is_analysed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_benchmark(tmp_path / "benchmark", 4, "toy_two")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="works in one process, not in 2"):
        call(tmp_path, monkeypatch, "--corruptions=jpeg", "--levels=1")
    assert not (tmp_path / "results").exists()


def test_a_level_without_a_figure_is_a_gap_in_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    plotted: list[list[float]] = []
    plot = Axes.plot

    def seen(axis: Axes, levels: list[int], values: list[float], *more: Any, **how: Any) -> Any:
        plotted.append(values)
        return plot(axis, levels, values, *more, **how)

    monkeypatch.setattr(Axes, "plot", seen)
    shares, bands = [0.9, None, 0.5], [[0.8, 0.95], None, None]
    curve = {"levels": [0, 1, 2], "acc": shares, "acc_interval": bands, "auc": shares, "auc_interval": bands}
    robustness.draw({"jpeg": curve}, "toy", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()
    assert all(values[0] == 90 and math.isnan(values[1]) and values[2] == 50 for values in plotted) and plotted


def test_sweeps_add_to_one_file_and_spare_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_benchmark(tmp_path / "benchmark", 4, "toy_two")

    def swept(*arguments: str) -> Path:
        assert call(tmp_path, monkeypatch, *arguments) == EXIT_DONE
        return Path(capsys.readouterr().out.strip().split("saved in ")[1])

    first = swept("--corruptions=jpeg", "--levels=5")
    assert swept("--corruptions=jpeg,noise", "--levels=1") == first
    found = json.loads((first / "robustness.json").read_text())
    assert list(found) == ["jpeg", "noise"] and found["jpeg"]["levels"] == [0, 1, 5]
    assert found["jpeg"]["values"] == [None, 90, 10] and len(found["jpeg"]["acc_interval"]) == 3
    of = found["noise"]["of"]
    assert (of["method"], of["model"], of["pictures"]) == ("ffaa", "tiny", 4) and of["fingerprint"]
    read_curves(first / "robustness.json")
    before = (first / "robustness.json").read_bytes()
    assert swept("--corruptions=jpeg", "--levels=1", "--seed=1") != first
    assert swept("--corruptions=jpeg", "--levels=1", "--eval_num=2") != first
    assert (first / "robustness.json").read_bytes() == before
    with pytest.raises(InputError, match="is of another method, weights, options or pictures"):
        call(tmp_path, monkeypatch, "--corruptions=blur", "--levels=1", "--seed=1", f"--out={first}")
    assert (first / "robustness.json").read_bytes() == before
    for wrong in ("{", "[]", '{"jpeg": {"levels": [0]}}'):
        (first / "robustness.json").write_text(wrong)
        with pytest.raises(InputError, match=r"robustness.json"):
            call(tmp_path, monkeypatch, "--corruptions=jpeg", "--levels=1")


def test_a_bad_folder_is_found_before_anything_is_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_benchmark(tmp_path / "benchmark", 4, "toy_two")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        call(tmp_path, monkeypatch, "--corruptions=jpeg", "--levels=1", f"--out={tmp_path / 'file'}")
    monkeypatch.setattr(robustness.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="nothing can be written into"):
        call(tmp_path, monkeypatch, "--corruptions=jpeg", "--levels=1", f"--out={tmp_path / 'folder'}")
    assert not (tmp_path / "results").exists()
