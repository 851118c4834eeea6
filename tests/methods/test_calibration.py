from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ffaa.methods.calibration import CALIBRATION_FILE, calibrated, read_calibration, scores_of, write_calibration
from ffaa.metrics.calibration import Calibration
from ffaa.types import Analysis, Answer, InputError, Verdict

CALIBRATION = Calibration({"score": 1.0, "opening": 1.0}, 0.0, (0.4, 0.6), fitted_on={"mids": "aa"}, measured={"n": 3})


def analysis(verdict: Verdict, score: float, opening: float | None) -> Analysis:
    return Analysis(verdict, score, (Answer("text", verdict, opening_score=opening),))


def test_an_analysis_gets_its_probability() -> None:
    found = calibrated(analysis(Verdict.FAKE, 0.8, 0.8), CALIBRATION)
    assert found.probability == pytest.approx(16 / 17) and found.uncertain is False
    against = calibrated(analysis(Verdict.REAL, 0.8, 0.8), CALIBRATION)
    assert against.probability == found.probability and against.uncertain is True
    assert calibrated(analysis(Verdict.FAKE, 0.55, None), CALIBRATION).uncertain is True
    assert scores_of(Analysis(Verdict.REAL, 0.2)) == {"score": 0.2, "opening": None}


def test_without_calibration_or_verdict_nothing_is_said() -> None:
    for given, calibration in (
        (analysis(Verdict.FAKE, 0.8, 0.8), None),
        (analysis(Verdict.UNPARSED, 0.5, None), CALIBRATION),
    ):
        assert calibrated(given, calibration) == given and given.probability is None and given.uncertain is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path)
    assert read_calibration(tmp_path, {"mids": "aa"}, 3) == CALIBRATION
    assert read_calibration(tmp_path, {}, 3) == CALIBRATION  # the language model alone is loaded
    assert read_calibration(None, {}, 3) is None and read_calibration(tmp_path / "none", {}, 3) is None


def test_another_number_of_answers_has_no_calibration(tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path)
    assert read_calibration(tmp_path, {"mids": "aa"}, 1) is None


@pytest.mark.parametrize("weights", [{"mids": "cc"}, {"mids": "aa", "mllm": "bb"}])
def test_a_calibration_of_other_weights_is_refused(weights: dict[str, str], tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path)
    with pytest.raises(InputError, match=r"fitted to other weights \((mids|mllm)\): make it anew"):
        read_calibration(tmp_path, weights, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": 1},
        {"weights": {}},
        {"weights": {"score": "x"}},
        {"weights": {"scroe": 1.0}},
        {"weights": {"score": float("nan")}},
        {"bias": float("inf")},
        {"bias": None},
        {"uncertain": [0.9, 0.1]},
        {"uncertain": [float("nan"), 1]},
        {"uncertain": [-5, 7]},
        {"fitted_on": []},
        {"generate_num": None},
    ],
)
def test_a_damaged_file_is_said(change: dict[str, object], tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path)
    path = tmp_path / CALIBRATION_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match="is no calibration: .*scripts/calibrate.py makes one"):
        read_calibration(tmp_path, {}, 3)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"bias": 1' + "0" * 400 + "}"])
def test_what_is_no_such_file_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(text)
    with pytest.raises(InputError, match="is no calibration"):
        read_calibration(tmp_path, {}, 3)


def test_numbers_that_are_none_are_noticed() -> None:
    assert "probability" in str(replace(analysis(Verdict.FAKE, 0.5, 0.5), probability=float("nan")).nonsense)
