from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ffaa.data.benchmark import Benchmark, Item
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import RunSettings, rescore
from ffaa.evaluation.runner import Pictures, data_fingerprint, run, select
from ffaa.runtime import PROJECT_ROOT, locked
from ffaa.types import Analysis, InputError, Request
from tests.evaluation.toy import ToyMethod, make_benchmark

SETTINGS = RunSettings(config={"method": "toy", "model": {"seed": 0}}, block_size=4)


@pytest.fixture
def benchmark_set(tmp_path: Path) -> Benchmark:
    return make_benchmark(tmp_path / "benchmark", 18)


def lines_of(folder: Path) -> dict[str, Any]:
    return {line["id"]: line for line in read_lines(folder / "predictions.jsonl")}


def test_a_run_writes_the_whole_result(benchmark_set: Benchmark, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run(ToyMethod(), benchmark_set, out, SETTINGS)
    assert summary["n"] == 18 and summary["n_failed"] == 0
    assert summary["decisions"]["method"]["accuracy"] == 1.0
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert json.loads((out / "manifest.json").read_text())["n_pictures"] == 18
    assert "seed: 0" in (out / "config.yaml").read_text()
    assert sum(json.loads(row)["n"] for row in (out / "timings.jsonl").read_text().splitlines()) == 18
    first = read_lines(out / "predictions.jsonl")[0]
    assert set(first) == {
        "id", "label", "forgery_type", "status", "error", "verdict", "score", "answers", "chosen", "match_score",
        "match_scores", "logits", "difficulty", "probability", "uncertain",
    }  # fmt: skip
    assert (first["id"], first["label"], first["status"], first["error"]) == ("000.png", "real", "ok", None)
    assert first["answers"][0]["verdict"] == "real" and first["answers"][1]["hypothesis"] == "fake"


def test_a_second_run_analyses_nothing(benchmark_set: Benchmark, tmp_path: Path) -> None:
    summary = run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    again = ToyMethod()
    assert run(again, benchmark_set, tmp_path / "out", SETTINGS) == summary
    assert again.blocks == []
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize("kept", range(0, 18, 3))
def test_a_run_cut_after_any_line_goes_on_with_the_same_blocks(
    benchmark_set: Benchmark, tmp_path: Path, kept: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(ToyMethod(), benchmark_set, whole, SETTINGS)
    run(ToyMethod(), benchmark_set, cut, SETTINGS)
    rows = (cut / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "predictions.jsonl").write_bytes(b"".join(rows[:kept]) + rows[kept][:30])
    method = ToyMethod()
    run(method, benchmark_set, cut, SETTINGS)
    assert (cut / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()
    assert (cut / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    # The block that was cut is analysed whole again, the finished ones before it are not.
    assert method.blocks[0][0] == f"{kept // 4 * 4:03}.png"


def test_only_missing_lines_are_added(benchmark_set: Benchmark, tmp_path: Path) -> None:
    run(ToyMethod(), benchmark_set, tmp_path / "whole", SETTINGS)
    run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    path = tmp_path / "out" / "predictions.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:5] + rows[6:]))
    run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    assert path.read_bytes() == b"".join(rows[:5] + rows[6:] + [rows[5]])
    assert (tmp_path / "out" / "summary.json").read_bytes() == (tmp_path / "whole" / "summary.json").read_bytes()


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    benchmark = make_benchmark(tmp_path / "benchmark", 60)
    run(ToyMethod(), benchmark, tmp_path / "whole", RunSettings(config={"method": "toy"}, block_size=4))
    killed = tmp_path / "runs" / "toy_set"
    command = [sys.executable, "-m", "tests.evaluation.toy", str(tmp_path / "benchmark"), str(killed.parent), "0.03"]
    rng = random.Random(0)
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.DEVNULL)
        wanted = rng.randrange(5, 15) + (len(lines_of(killed)) if (killed / "predictions.jsonl").exists() else 0)
        while process.poll() is None:
            if (killed / "predictions.jsonl").exists() and len(lines_of(killed)) >= wanted:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(rng.random() / 200)
        process.wait()
    assert kills == 3 and not (killed / "summary.json").exists()
    subprocess.run(command, cwd=PROJECT_ROOT, check=True, stderr=subprocess.DEVNULL)
    ids = [line["id"] for line in read_lines(killed / "predictions.jsonl")]
    assert sorted(ids) == sorted({item.id for item in benchmark.items})
    assert lines_of(killed) == lines_of(tmp_path / "whole")
    assert (killed / "summary.json").read_bytes() == (tmp_path / "whole" / "summary.json").read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RunSettings(config={"method": "toy", "model": {"seed": 1}}, block_size=4), r"model.seed = 0, not 1"),
        (RunSettings(config={"method": "toi", "model": {"seed": 0}}, block_size=4), r"method = toy, not toi"),
        (RunSettings(config=SETTINGS.config, block_size=8), r"block_size = 4, not 8"),
        (RunSettings(config={**SETTINGS.config, "crop": True}, block_size=4), r"crop = nothing, not True"),
    ],
)
def test_going_on_under_another_config_is_refused(
    benchmark_set: Benchmark, tmp_path: Path, settings: RunSettings, message: str
) -> None:
    run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    method = ToyMethod()
    with pytest.raises(InputError, match=message):
        run(method, benchmark_set, tmp_path / "out", settings)
    assert method.blocks == [] and (tmp_path / "out" / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize("hash_", ["12e34567", "12345678", "0x12", "null", "1_000", "00123456", "1e5"])
def test_a_hash_that_looks_like_a_number_is_the_same_again(
    benchmark_set: Benchmark, tmp_path: Path, hash_: str
) -> None:
    settings = RunSettings(config={"data": hash_})
    run(ToyMethod(), benchmark_set, tmp_path / "out", settings)
    run(ToyMethod(), benchmark_set, tmp_path / "out", settings)


def test_fresh_starts_anew_and_leaves_other_files(benchmark_set: Benchmark, tmp_path: Path) -> None:
    run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    method = ToyMethod()
    run(method, benchmark_set, tmp_path / "out", RunSettings(config={"method": "other"}, block_size=4, fresh=True))
    assert sum(map(len, method.blocks)) == 18
    assert len(lines_of(tmp_path / "out")) == 18
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_pictures_that_do_not_open_are_recorded_and_the_run_goes_on(benchmark_set: Benchmark, tmp_path: Path) -> None:
    benchmark_set.items[1].path.write_bytes(b"no picture")
    benchmark_set.items[6].path.write_bytes(benchmark_set.items[6].path.read_bytes()[:40])
    summary = run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    assert (summary["n"], summary["n_failed"]) == (16, 2)
    lines = lines_of(tmp_path / "out")
    assert {line["id"] for line in lines.values() if line["status"] == "failed"} == {"001.png", "006.png"}
    assert lines["001.png"]["error"] and "\n" not in lines["001.png"]["error"]
    again = ToyMethod()
    assert run(again, benchmark_set, tmp_path / "out", SETTINGS) == summary
    assert again.blocks == []


def test_a_block_of_unusable_pictures_never_reaches_the_method(benchmark_set: Benchmark, tmp_path: Path) -> None:
    for item in benchmark_set.items:
        item.path.write_bytes(b"")
    method = ToyMethod()
    summary = run(method, benchmark_set, tmp_path / "out", SETTINGS)
    assert (summary["n"], summary["n_failed"], method.blocks) == (0, 18, [])


@pytest.mark.parametrize("ahead", [True, False])
def test_pictures_without_a_face_are_recorded(benchmark_set: Benchmark, tmp_path: Path, ahead: bool) -> None:
    def crop(image: Image.Image) -> Image.Image:
        if image.getpixel((0, 0)) == (0, 0, 0):
            raise InputError("no face found")
        return image.crop((1, 1, 5, 5))

    sizes: set[tuple[int, int]] = set()

    class Watching(ToyMethod):
        def analyze(self, requests: Any) -> list[Analysis]:
            sizes.update(request.image.size for request in requests)
            return super().analyze(requests)

    summary = run(Watching(), benchmark_set, tmp_path / "out", SETTINGS, Pictures(crop, ahead))
    assert (summary["n_failed"], sizes) == (1, {(4, 4)})
    assert lines_of(tmp_path / "out")["000.png"]["error"] == "no face found"


def test_the_next_block_is_read_while_one_is_analysed(benchmark_set: Benchmark, tmp_path: Path) -> None:
    read = threading.Event()

    def note(image: Image.Image) -> Image.Image:
        if image.getpixel((0, 0)) == (12, 12, 12):  # 004.png, the first of the second block
            read.set()
        return image

    class Waiting(ToyMethod):
        def analyze(self, requests: Any) -> list[Analysis]:
            assert read.wait(20), "the second block is not read before the first is analysed"
            return super().analyze(requests)

    assert run(Waiting(), benchmark_set, tmp_path / "out", SETTINGS, Pictures(note))["n"] == 18


def test_a_score_that_is_no_number_is_a_failure(benchmark_set: Benchmark, tmp_path: Path) -> None:
    class Broken(ToyMethod):
        def _analysis(self, request: Request, shift: float) -> Analysis:
            found = super()._analysis(request, shift)
            return found if request.id != "003.png" else Analysis(found.verdict, float("nan"), found.answers)

    summary = run(Broken(), benchmark_set, tmp_path / "out", SETTINGS)
    assert summary["n_failed"] == 1
    assert lines_of(tmp_path / "out")["003.png"]["error"] == "the method's score is nan"


def test_an_answer_s_score_that_is_no_number_is_a_failure_too(benchmark_set: Benchmark, tmp_path: Path) -> None:
    class Broken(ToyMethod):
        def _analysis(self, request: Request, shift: float) -> Analysis:
            found = super()._analysis(request, shift)
            first = replace(found.answers[0], score=float("inf"))
            return replace(found, answers=(first, *found.answers[1:])) if request.id == "003.png" else found

    assert run(Broken(), benchmark_set, tmp_path / "out", SETTINGS)["n_failed"] == 1
    assert lines_of(tmp_path / "out")["003.png"]["error"] == "the method's answer's score is inf"


def test_a_method_that_loses_a_picture_is_a_bug(benchmark_set: Benchmark, tmp_path: Path) -> None:
    class Losing(ToyMethod):
        def analyze(self, requests: Any) -> list[Analysis]:
            return super().analyze(requests)[1:]

    with pytest.raises(RuntimeError, match="3 analyses for 4 requests"):
        run(Losing(), benchmark_set, tmp_path / "out", SETTINGS)


def test_two_runs_do_not_share_a_folder(benchmark_set: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out", ".lock-0"), pytest.raises(InputError, match="another process is writing"):
        run(ToyMethod(), benchmark_set, tmp_path / "out", RunSettings(config={}, fresh=True))


def test_a_folder_that_is_no_result_is_refused(benchmark_set: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text("")
    with pytest.raises(InputError, match="no config.yaml"):
        run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        run(ToyMethod(), benchmark_set, tmp_path / "file", SETTINGS)


def test_predictions_of_another_benchmark_are_refused(benchmark_set: Benchmark, tmp_path: Path) -> None:
    run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    fewer = Benchmark("toy_set", benchmark_set.root, benchmark_set.items[1:], False)
    with pytest.raises(InputError, match=r"'000\.png' is not in the benchmark"):
        run(ToyMethod(), fewer, tmp_path / "out", SETTINGS)


def test_metrics_are_made_again_without_torch(benchmark_set: Benchmark, tmp_path: Path) -> None:
    summary = run(ToyMethod(), benchmark_set, tmp_path / "out", SETTINGS)
    (tmp_path / "out" / "summary.json").unlink()
    assert rescore(tmp_path / "out") == summary
    code = (
        "import sys; from pathlib import Path; from ffaa.evaluation.result_folder import rescore; "
        f"rescore(Path({str(tmp_path / 'out')!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


def test_a_summary_made_while_a_run_goes_on_is_not_taken_for_its_end(benchmark_set: Benchmark, tmp_path: Path) -> None:
    class ScoredMeanwhile(ToyMethod):
        def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
            if self.blocks:
                assert rescore(tmp_path / "out")["n"] < len(benchmark_set.items)
            return super().analyze(requests)

    summary = run(ScoredMeanwhile(), benchmark_set, tmp_path / "out", SETTINGS)
    assert summary["n"] == len(benchmark_set.items)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


@pytest.mark.parametrize("block_size", [0, -1])
def test_a_block_has_a_picture_at_least(block_size: int) -> None:
    with pytest.raises(InputError, match="block_size"):
        RunSettings(config={}, block_size=block_size)


def some(counts: dict[tuple[str, str | None], int]) -> Benchmark:
    """A benchmark sorted by label and type, whose files do not exist."""
    items = [
        Item(f"{label}_{kind}_{i}", Path("none"), label, kind) for (label, kind), n in counts.items() for i in range(n)
    ]
    return Benchmark("some", Path("none"), tuple(items), True)


def test_a_selection_keeps_labels_and_types_in_their_shares() -> None:
    whole = some({("real", None): 100, ("fake", "a"): 60, ("fake", "b"): 40})
    chosen = select(whole, 60).items
    counts = [
        sum((i.label, i.forgery_type) == key for i in chosen) for key in [("real", None), ("fake", "a"), ("fake", "b")]
    ]
    assert counts == [30, 18, 12]
    assert [item.id for item in chosen] == [item.id for item in whole.items if item in chosen]


@pytest.mark.parametrize("limit", range(1, 31))
def test_a_selection_has_the_number_asked_for(limit: int) -> None:
    chosen = select(some({("real", None): 13, ("fake", "a"): 11, ("fake", "b"): 6}), limit).items
    assert len({item.id for item in chosen}) == limit
    assert abs(sum(item.label == "real" for item in chosen) - limit * 13 / 30) <= 1


@pytest.mark.parametrize("limit", [-1, 18, 19])
def test_all_pictures_where_the_limit_is_no_limit(benchmark_set: Benchmark, limit: int) -> None:
    assert select(benchmark_set, limit) is benchmark_set


def test_no_pictures_is_no_selection(benchmark_set: Benchmark) -> None:
    with pytest.raises(InputError, match="at least 1"):
        select(benchmark_set, 0)


def test_the_fingerprint_is_of_the_pictures_contents(benchmark_set: Benchmark) -> None:
    before = data_fingerprint(benchmark_set)
    assert data_fingerprint(benchmark_set) == before
    benchmark_set.items[3].path.write_bytes(b"other")
    changed = data_fingerprint(benchmark_set)
    benchmark_set.items[3].path.unlink()
    assert len({before, changed, data_fingerprint(benchmark_set)}) == 3
