"""Several processes share a run, are killed and taken up by another number of them: the result is one process's."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffaa.evaluation.cluster import ALONE, in_step
from ffaa.evaluation.predictions import LineWriter, read_lines
from ffaa.evaluation.result_folder import Job, RunSettings
from ffaa.evaluation.runner import run_jobs
from ffaa.runtime import PROJECT_ROOT, locked
from ffaa.types import InputError
from tests.evaluation.toy import ToyMethod, make_benchmark

SETTINGS = RunSettings(config={"method": "toy"}, block_size=4)
NAMES = ("a_set", "b_set")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, n in zip(NAMES, (30, 9), strict=True):
        make_benchmark(tmp_path / "benchmark", n, name)
    return tmp_path / "benchmark"


@pytest.fixture
def whole(root: Path, tmp_path: Path) -> Path:
    """The result of one uninterrupted process."""
    assert run_jobs(ToyMethod(), _jobs(root, tmp_path / "whole")) is not None
    return tmp_path / "whole"


def _jobs(root: Path, out: Path) -> list[Job]:
    from ffaa.data.benchmark import load_benchmark

    return [Job(load_benchmark(name, root), out / name, SETTINGS) for name in NAMES]


def _launch(ranks: int, root: Path, out: Path, seconds: float = 0.0) -> list[subprocess.Popen[str]]:
    """As torchrun starts them, without its watching over them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.evaluation.toy", str(root), str(out), str(seconds)]
    return [
        subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env={**os.environ, **shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def _ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    texts = [process.communicate(timeout=240) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def _lines(out: Path) -> int:
    return sum(_newlines(path) for path in out.glob("*/predictions*.jsonl"))


def _newlines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:  # a rank's part, merged by a rank that works while this is counted
        return 0


def _same(out: Path, whole: Path) -> bool:
    names = [f"{name}/{file}" for name in NAMES for file in ("predictions.jsonl", "summary.json")]
    return all((out / name).read_bytes() == (whole / name).read_bytes() for name in names)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_make_the_result_of_one_process_and_one_of_them_reports(
    ranks: int, root: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = _ended(_launch(ranks, root, out))
    assert [code for code, _, _ in ended] == [0] * ranks, ended
    assert sorted(text for _, text, _ in ended) == [""] * (ranks - 1) + ["reported 2\n"]
    assert _same(out, whole)
    assert not list(out.glob("*/*-[0-9].jsonl"))


def test_torchrun_shares_a_run(root: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    out = tmp_path / "out"
    program = ["-m", "tests.evaluation.toy", str(root), str(out), "0"]
    done = subprocess.run([*command, *program], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.count("reported 2") == 1, done.stderr
    assert _same(out, whole)


def _kill_some(out: Path, ranks: int, root: Path, rng: random.Random, *, everybody: bool) -> bool:
    """Launch, kill -9 one rank or all of them after a few more pictures, let the others end; whether that was so."""
    wanted = _lines(out) + rng.randrange(2, 6)
    processes = _launch(ranks, root, out, 0.15)
    while _lines(out) < wanted:
        if all(process.poll() is not None for process in processes):
            return False
        time.sleep(0.005)
    for process in processes if everybody else [rng.choice(processes)]:
        process.send_signal(signal.SIGKILL)
    return any(code == -signal.SIGKILL for code, _, _ in _ended(processes))


def _survives_kills(root: Path, out: Path, whole: Path, seed: int) -> None:
    rng = random.Random(seed)
    killed = [_kill_some(out, ranks, root, rng, everybody=ranks == 2) for ranks in (3, 2)]
    assert any(killed), "every launch ended before it was killed"
    ranks = rng.choice([1, 2, 3])
    ended = _ended(_launch(ranks, root, out))
    assert [code for code, _, _ in ended] == [0] * ranks, ended
    ids = [line["id"] for name in NAMES for line in read_lines(out / name / "predictions.jsonl")]
    assert len(ids) == 39 and _lines(out) == 39
    for name in NAMES:
        assert _by_id(out / name) == _by_id(whole / name)
        assert (out / name / "summary.json").read_bytes() == (whole / name / "summary.json").read_bytes()


def _by_id(folder: Path) -> dict[str, object]:
    return {line["id"]: line for line in read_lines(folder / "predictions.jsonl")}


@pytest.mark.parametrize("seed", [0, 11, 12])
def test_killed_ranks_lose_nothing(seed: int, root: Path, whole: Path, tmp_path: Path) -> None:
    _survives_kills(root, tmp_path / "out", whole, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_ranks_killed_many_times_lose_nothing(seed: int, root: Path, whole: Path, tmp_path: Path) -> None:
    _survives_kills(root, tmp_path / "out", whole, seed)


def test_what_one_rank_may_not_touch_stops_all_and_is_said_once(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b_set").mkdir(parents=True)
    with locked(out / "b_set", ".lock-1"):
        ended = _ended(_launch(2, root, out))
    assert [text.count("another process is writing") for _, _, text in ended] == [1, 0]
    assert all(code != 0 for code, _, _ in ended) and ended[1][0] == 2
    assert _lines(out) == 0


def test_a_rank_of_an_earlier_launch_that_still_works_is_not_overrun(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "a_set").mkdir(parents=True)
    method = ToyMethod()
    with locked(tmp_path / "out" / "a_set", ".lock-7"), pytest.raises(InputError, match="another process is writing"):
        run_jobs(method, _jobs(root, tmp_path / "out"))
    assert method.blocks == []
    assert run_jobs(method, _jobs(root, tmp_path / "out")) is not None
    assert not (tmp_path / "out" / "a_set" / ".lock-7").exists()


def test_a_merge_cut_in_the_middle_is_done_again(root: Path, whole: Path, tmp_path: Path) -> None:
    """Its result is written, its parts are still there: every picture of a part has two lines."""
    out = tmp_path / "out"
    run_jobs(ToyMethod(), _jobs(root, out))
    lines = read_lines(out / "a_set" / "predictions.jsonl")
    for rank, part in enumerate((lines[:8], lines[12:20])):
        with LineWriter(out / "a_set" / f"predictions-{rank}.jsonl") as writer:
            for line in part:
                writer.write(line)
    method = ToyMethod()
    assert run_jobs(method, _jobs(root, out)) is not None
    assert method.blocks == [] and _same(out, whole) and _lines(out) == 39


def test_alone_nothing_is_agreed_on() -> None:
    done: list[str] = []
    assert in_step(ALONE, lambda: done.append("each"), lambda: len(done)) == 1
