"""What a run may meet that takes hours: a disk that fills up, and ten thousand pictures."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from ffaa.data.benchmark import write_benchmark
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.runner import run
from ffaa.runtime import EXIT_INPUT, PROJECT_ROOT
from tests.evaluation.toy import ToyMethod, make_benchmark


def _run_toy(root: Path, out: Path, *, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """The toy run as a process of its own; ``largest_file``: the system refuses to let a file grow beyond it."""
    program = (
        "from ffaa.runtime import run_door; from tests.evaluation.toy import main\n"
        "run_door(lambda: main() or 0)"  # as every program does
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(root), str(out), "0"],
        preexec_fn=None if largest_file is None else partial(_limit, largest_file),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("room", [3000, 9000])
def test_a_disk_that_fills_up_stops_a_run_which_goes_on_once_there_is_room(tmp_path: Path, room: int) -> None:
    make_benchmark(tmp_path / "benchmark", 18)
    assert _run_toy(tmp_path / "benchmark", tmp_path / "whole").returncode == 0
    cut = _run_toy(tmp_path / "benchmark", tmp_path / "out", largest_file=room)
    assert cut.returncode == EXIT_INPUT
    (reason,) = [line for line in cut.stderr.splitlines() if line.startswith("error: ")]
    assert "predictions.jsonl" in reason and "the same command goes on from here" in reason
    predictions = tmp_path / "out" / "toy_set" / "predictions.jsonl"
    written = read_lines(predictions)
    assert 0 < len(written) < 18 and predictions.stat().st_size <= room
    done = _run_toy(tmp_path / "benchmark", tmp_path / "out")
    assert done.returncode == 0 and "reported 1" in done.stdout
    assert predictions.read_bytes() == (tmp_path / "whole" / "toy_set" / "predictions.jsonl").read_bytes()


def test_pictures_are_not_kept_in_memory(tmp_path: Path) -> None:
    """While a block is analysed, no pictures are open but its own and those of the one that is read ahead."""
    import gc

    seen: list[int] = []

    class Counting(ToyMethod):
        def analyze(self, requests):
            seen.append(sum(isinstance(thing, Image.Image) for thing in gc.get_objects()))
            return super().analyze(requests)

    from tests.evaluation.test_runner import SETTINGS

    run(Counting(), make_benchmark(tmp_path / "benchmark", 60), tmp_path / "out", SETTINGS)
    assert len(seen) == 15 and max(seen) - min(seen) <= 2 * 4


@pytest.mark.slow
def test_memory_stays_flat_and_time_linear_to_ten_thousand_pictures(tmp_path: Path) -> None:
    """The tiny model, whose every part runs; peaks are of whole processes."""
    peaks, seconds = {}, {}
    for count in (100, 1_000, 10_000):
        images = tmp_path / f"many_{count}" / "imgs"
        images.mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (24, 24), (index % 256, index // 256, 7)).save(images / f"{index:05}.png")
        write_benchmark(images.parent, {f"{i:05}.png": ("fake" if i % 2 else "real") for i in range(count)})
        command = [sys.executable, "eval.py", f"--benchmark={images.parent}", "--model=tiny", "--dtype=float32"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--max_new_tokens=4", "--cache=0", "--block_size=32", f"--result_root={tmp_path / 'results'}"],
            cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks[count], seconds[count] = usage.ru_maxrss / 1024, time.perf_counter() - began
    print(json.dumps({"peak MB": peaks, "seconds": seconds}))
    # The summary reads all lines at the end: some kilobytes a picture.
    assert peaks[10_000] - peaks[100] < 0.02 * 10_000
    a_picture = (seconds[1_000] - seconds[100]) / 900
    assert seconds[10_000] - seconds[1_000] < 2 * 9_000 * a_picture
