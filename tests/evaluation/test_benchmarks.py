"""Scoring a result again, without a method."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ffaa.evaluation.benchmarks import EvalConfig, evaluate
from ffaa.evaluation.result_folder import count_to_score
from tests.reporting.toy_results import Toy, toy_lines, write_lines


def test_scoring_a_cut_run_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Toy(tmp_path).run("free_toy", 6)
    (folder / "manifest.json").write_text(json.dumps({"n_pictures": 6}))
    with caplog.at_level(logging.WARNING):
        evaluate(EvalConfig(score_only=folder))
        assert not caplog.messages
        failed = {"id": "x.jpg", "label": "real", "status": "failed", "error": "no face"}
        write_lines(folder, [*toy_lines(4), failed])
        (result,) = evaluate(EvalConfig(score_only=folder))
    assert result.summary["n"] == 4
    assert caplog.messages == [f"{folder}: only 5 of the run's 6 pictures are there; these are scored"]


@pytest.mark.parametrize("manifest", [None, "{", "[]", "{}", '{"n_pictures": "6"}', "\udcff"])
def test_a_result_need_not_say_how_many_pictures_it_was_begun_on(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_bytes(manifest.encode("utf-8", "surrogateescape"))
    assert count_to_score(tmp_path) is None
