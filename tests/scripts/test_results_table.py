"""Tables for the README: the figures of the summary, the run that is meant, and the probe on its pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ffaa.data.benchmark import load_benchmark, write_benchmark
from ffaa.evaluation.runner import data_fingerprint, select
from ffaa.types import InputError
from scripts import results_table
from tests.reporting.toy_results import Toy


def printed(toy: Toy, monkeypatch: pytest.MonkeyPatch, run: str = "run*", benchmarks: str = "free_toy") -> None:
    arguments = ["--benchmarks", benchmarks, "--run", run, "--results", str(toy.root / "results")]
    monkeypatch.setattr(sys, "argv", ["results_table.py", *arguments])
    assert results_table.main() == 0


def test_figures_are_those_of_the_summary_and_of_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    folder = toy.run("free_toy", 40, data="272c4103")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    probe = tmp_path / "results" / "probe" / "free_toy.json"
    probe.parent.mkdir()
    # A probe that is the method with the sign turned: its AUC is what is left of one.
    scores = {line["id"]: 1 - line["score"] for line in lines}
    probe.write_text(json.dumps({"data": "272c4103", "scores": scores}))
    printed(toy, monkeypatch)
    out = capsys.readouterr().out
    found = json.loads((folder / "summary.json").read_text())["decisions"]["method"]
    assert f"{100 * found['accuracy']:.1f} [" in out and f"{100 * found['auc']:.1f} [" in out
    assert f"| {100 * (1 - found['auc']):.1f} [" in out and "| `free_toy` | 20 / 20 |" in out
    for content, reason in (
        ({"data": "272c4103", "scores": {}}, "has no score of"),
        ({"data": "another", "scores": scores}, "not of the pictures .*data another, not 272c4103"),
        ({"scores": scores}, "data None, not 272c4103.*probe_benchmarks.py makes it anew"),
    ):
        probe.write_text(json.dumps(content))
        with pytest.raises(InputError, match=reason):
            printed(toy, monkeypatch)


def test_the_probe_beside_a_run_on_some_pictures(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.benchmark("free_toy", 6)
    root, probe = tmp_path / "benchmark", tmp_path / "probe.json"
    write_benchmark(root / "free_toy", {f"{n:05d}.jpg": "fake" if n % 2 else "real" for n in range(6)})
    benchmark = load_benchmark("free_toy", root)
    run = toy.run("free_toy", 2, limit=2, data=data_fingerprint(select(benchmark, 2)))
    probe.write_text(json.dumps({"data": data_fingerprint(benchmark), "scores": {"00000.jpg": 0.5}}))
    assert results_table.probe_scores(probe, run, root) == {"00000.jpg": 0.5}
    probe.write_text(json.dumps({"data": "another", "scores": {}}))
    with pytest.raises(InputError, match="not of the pictures"):
        results_table.probe_scores(probe, run, root)
    (root / "free_toy" / "imgs" / "00005.jpg").write_bytes(b"another picture")
    with pytest.raises(InputError, match="was made on another free_toy"):
        results_table.probe_scores(probe, toy.run("free_toy", 6, "all", limit=6, data="x"), root)


def test_the_newest_run_of_uncorrupted_pictures_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(InputError, match="no finished run"):
        printed(toy, monkeypatch)
    toy.run("free_toy", 10)
    toy.run("free_toy", 10, "run-jpeg", degrade="jpeg:50")
    printed(toy, monkeypatch)
    assert capsys.readouterr().err.endswith("free_toy/run\n")
    printed(toy, monkeypatch, "run-jpeg")
    assert capsys.readouterr().err.endswith("free_toy/run-jpeg\n")
    begun(toy.run("free_toy", 12, "run-earlier"), "2025-12-31", 12)
    begun(toy.run("free_toy", 12, "run-best", device="cuda", block_size=32), "2026-01-02", 12)
    printed(toy, monkeypatch)
    assert capsys.readouterr().err.endswith("free_toy/run-best, the newest of 3\n")
    (tmp_path / "results" / "free_toy" / "run-best" / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="is no summary of a run"):
        printed(toy, monkeypatch)


def begun(run: Path, created: str, n_pictures: int) -> None:
    (run / "manifest.json").write_text(json.dumps({"created": created, "n_pictures": n_pictures}))


def test_a_run_that_was_cut_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    begun(toy.run("free_toy", 10, "run-cut"), "2026-01-02", 11)
    with pytest.raises(InputError, match="no finished run"):
        printed(toy, monkeypatch)
    begun(toy.run("free_toy", 10), "2026-01-01", 10)
    printed(toy, monkeypatch)
    assert capsys.readouterr().err.endswith("free_toy/run\n")


def test_runs_that_are_not_alike_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    toy.run("free_toy", 10)
    toy.run("free_toy", 10, "run-five", limit=5)
    with pytest.raises(InputError, match=r"free_toy/run \(limit None\), free_toy/run-five \(limit 5\); --run NAME"):
        printed(toy, monkeypatch)
    printed(toy, monkeypatch, "run-five")
    assert capsys.readouterr().err.endswith("free_toy/run-five, 5 pictures at most\n")
    toy.run("free_other", 10)
    printed(toy, monkeypatch, "run", "free_toy,free_other")
    with pytest.raises(InputError, match=r"not of one model .*free_toy/run-five \(limit 5\), free_other/run "):
        printed(toy, monkeypatch, "run-five,r*", "free_toy,free_other")
    toy.run("free_toy", 10, "other", seed=1)
    toy.run("free_toy", 10, "half", dtype="bfloat16")
    for pattern, reason in (("run,other", r"fingerprint \w+, seed 1"), ("run,half", "dtype bfloat16")):
        with pytest.raises(InputError, match=reason):
            printed(toy, monkeypatch, pattern)
    with pytest.raises(InputError, match=r"not of one model .*other \(fingerprint "):
        printed(toy, monkeypatch, "other,r*", "free_toy,free_other")
    (toy.run("free_toy", 10, "run-unknown") / "config.yaml").unlink()
    with pytest.raises(InputError, match="fingerprint None"):
        printed(toy, monkeypatch, "run,run-unknown")
