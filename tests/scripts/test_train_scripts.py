"""The launching scripts: what they start, and what they say of settings that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffaa.runtime import PROJECT_ROOT

SCRIPTS = PROJECT_ROOT / "scripts" / "train"
ABLATIONS = sorted(path.stem for path in SCRIPTS.glob("ablate_*.sh"))
STAGES = sorted({path.stem for path in SCRIPTS.glob("*.sh")} - {"launch", "mini", *ABLATIONS})


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """A `deepspeed` that prints its arguments and what it was given by environment."""
    program = tmp_path / "bin" / "deepspeed"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\necho "accelerator=$DS_ACCELERATOR threads=$OMP_NUM_THREADS"\n')
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def parser(tmp_path: Path) -> Path:
    """An active environment whose `python` parses a program's options as the real one does, prints them, and ends."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/calls"\nexec "{sys.executable}" "$@" --print_config\n')
    program.chmod(0o755)
    return program.parent


def run(name: str, launcher: Path, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{launcher}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")} | settings
    command = ["bash", str(SCRIPTS / f"{name}.sh"), *flags]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)


@pytest.mark.parametrize("name", STAGES)
def test_each_script_names_a_config_and_a_deepspeed_file_that_are_there(name: str, launcher: Path) -> None:
    done = run(name, launcher)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    for flag in ("--config", "--deepspeed"):
        assert (PROJECT_ROOT / words[words.index(flag) + 1]).is_file()
    assert "--no_local_rank" in words and words[words.index("train.py") - 1] == "--no_local_rank"


def test_gpus_hosts_and_flags_are_passed_on(launcher: Path, tmp_path: Path) -> None:
    settings = {"CONFIG": "configs/ffaa/mini/mids.yaml", "GPUS": "2,3", "MASTER_PORT": "12345"}
    one = run("train_mids_v1", launcher, "--epochs", "1", **settings).stdout
    assert "--master_port 12345 --include localhost:2,3 --no_local_rank train.py" in one
    assert one.splitlines()[0].endswith("--epochs 1")
    (tmp_path / "hosts").write_text("node1 slots=8\nnode2 slots=8\n")
    many = run("train_mids_v1", launcher, HOSTFILE=str(tmp_path / "hosts"), CONFIG=settings["CONFIG"]).stdout
    assert f"--hostfile {tmp_path / 'hosts'} --no_local_rank" in many and "--include" not in many


def test_ranks_of_a_cpu_have_a_thread_each(launcher: Path) -> None:
    done = run("mini_mids", launcher, RANKS="3").stdout
    assert "--num_accelerators 3" in done and "--device cpu" in done
    assert "accelerator=cpu threads=1" in done


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"RANKS": "none"}, "RANKS is a number of processes, not none"),
        ({"CONFIG": "nowhere.yaml"}, "no such file: nowhere.yaml"),
        ({"DEEPSPEED_CONFIG": "nowhere.json"}, "no such file: nowhere.json"),
        ({"HOSTFILE": "nowhere"}, "no such file: nowhere"),
    ],
)
def test_settings_that_cannot_be_are_said(settings: dict[str, str], said: str, launcher: Path) -> None:
    done = run("mini_mids", launcher, **settings)
    assert done.returncode == 2 and done.stderr == f"error: {said}\n" and not done.stdout


def test_wrong_gpus_are_said(launcher: Path) -> None:
    done = run("train_mids_v1", launcher, GPUS="first", CONFIG="configs/ffaa/mini/mids.yaml")
    assert done.returncode == 2 and "GPUS lists indices such as 0,1, not first" in done.stderr


@pytest.mark.parametrize(("name", "known", "wrong"), [("ablate_mids", "bgr", "rgb"), ("ablate_hypotheses", "0", "101")])
def test_an_ablation_that_is_not_known_is_refused_before_any_is_trained(
    name: str, known: str, wrong: str, launcher: Path, tmp_path: Path
) -> None:
    done = run(name, launcher, known, wrong, OUT=str(tmp_path / "out"))
    assert done.returncode == 2 and f"error: {'no variant ' if name == 'ablate_mids' else ''}{wrong}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_all_stages_of_mini_follow_from_one_another(parser: Path) -> None:
    done = run("mini", parser, VIRTUAL_ENV=str(parser.parent), SEED="3", DTYPE="float32")
    assert done.returncode == 0, done.stderr
    programs = [
        (words[0], words) for line in (parser.parent / "calls").read_text().splitlines() if (words := line.split())
    ]
    trained = [words[words.index("--config") + 1] for program, words in programs if program == "train.py"]
    stages = ["projector", "mllm", "mids_warmup", "mids"]
    assert trained == [f"configs/ffaa/mini/{name}.yaml" for name in stages]
    made: set[str] = set()
    for program, words in programs:
        given = dict(zip(words[1::2], words[2::2], strict=True))
        inputs = [given[flag] for flag in ("--init", "--checkpoint", "--mllm", "--mids") if flag in given]
        assert all(folder in made for folder in inputs), words
        assert all(folder.startswith("runs/ffaa-mini-seed3/") for folder in inputs)
        made |= {given[flag] for flag in ("--output", "--out") if flag in given}
        assert program != "train.py" or (given["--seed"], given["--dtype"]) == ("3", "float32")
    # Answers of this seed are read by stage 2, and those of the shipped one are left as they are.
    answers = [words[words.index("--answers") + 1] for _, words in programs if "--answers" in words]
    assert answers == ["answers-runs-ffaa-mini-seed3.jsonl"] * 2
    assert f"data/mini/mids/{answers[0]}" in done.stdout and f"data/mini/validation/{answers[0]}" in done.stdout
    assert done.stdout.endswith("--checkpoint runs/ffaa-mini-seed3/checkpoint\n")


@pytest.mark.parametrize("seed", ["one", "-1", "01", "1.5", "9" * 20])
def test_a_seed_is_a_number(seed: str, parser: Path) -> None:
    done = run("mini", parser, VIRTUAL_ENV=str(parser.parent), SEED=seed)
    assert done.returncode == 2 and done.stderr == f"error: SEED is a whole number from 0 up, not {seed}\n"
    assert not (parser.parent / "calls").exists()
