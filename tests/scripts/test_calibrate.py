"""The fit on made-up analyses, and the whole script on a tiny checkpoint's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffaa.methods.calibration import calibrated
from ffaa.types import Analysis, Answer, InputError, Record, Verdict
from scripts.calibrate import Options, calibrate, set_aside


def made_up(count: int, *, openings: bool = True) -> tuple[list[Record], list[Analysis]]:
    """Pictures of ten people whose scores are overconfident, the more so the more forged they look."""
    random = np.random.default_rng(0)
    records, analyses = [], []
    for index in range(count):
        fake = bool(random.random() < 0.5)
        evidence = random.normal(1.0 if fake else -1.0, 1.2)
        score = 1 / (1 + np.exp(-6 * evidence))
        verdict = Verdict.FAKE if score > 0.5 else Verdict.REAL
        opening = 1 / (1 + np.exp(-random.normal(2.0 if fake else -2.0, 2.0))) if openings else None
        records.append(Record(str(index), "x", "fake" if fake else "real", group=f"person {index % 10}"))
        analyses.append(Analysis(verdict, float(score), (Answer("", verdict, opening_score=opening),)))
    return records, analyses


def test_it_calibrates_and_says_by_how_much() -> None:
    records, analyses = made_up(600)
    fitted = calibrate(records, analyses, Options())
    measured = fitted.measured
    assert measured["ece"] < 0.06 < measured["ece_of_the_score"]
    assert measured["auc"] > measured["auc_of_the_score"]
    assert measured["accuracy_where_certain"] > measured["accuracy"] > measured["accuracy_where_uncertain"]
    assert 0 < measured["coverage"] < 1
    # The other people's pictures agree with the cross-validated figure.
    others = [calibrated(analysis, fitted) for analysis in made_up(600)[1]]
    assert sum(not one.uncertain for one in others) / 600 == pytest.approx(measured["coverage"], abs=0.05)


def test_a_model_without_openings_is_calibrated_by_its_score_alone() -> None:
    records, analyses = made_up(100, openings=False)
    assert list(calibrate(records, analyses, Options()).weights) == ["score"]


def test_too_few_people_are_said() -> None:
    records, analyses = made_up(4)
    with pytest.raises(InputError, match="at least 5 people"):
        calibrate(records, analyses, Options())


def test_the_calibration_there_is_set_aside_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    with set_aside(path):
        assert not path.exists()
    path.write_text("old")
    with pytest.raises(InputError), set_aside(path):
        assert not path.exists()
        raise InputError("stopped")
    assert path.read_text() == "old"
