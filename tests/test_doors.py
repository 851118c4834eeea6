"""The programs at the project's root: fast help, no torch before it is needed, usage errors as one line and code 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ffaa.runtime import PROJECT_ROOT

DOORS = ("train.py", "eval.py", "eval_llava.py", "inference.py")
HEAVY = ("torch", "transformers", "peft", "cv2", "sklearn", "matplotlib", "datasets", "pandas")
HELP_SECONDS = 2.0

# Runs a program as the shell would, then tells on stderr which heavy libraries it imported.
PROBE = f"""
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, "")
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("HEAVY:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=60)


def _imported(stderr: str) -> list[str]:
    return stderr.rpartition("HEAVY:")[2].split()


@pytest.mark.parametrize("door", DOORS)
def test_help_is_fast_and_imports_nothing_heavy(door: str) -> None:
    # processor time, since the wall clock also shows what else the machine is doing
    children = os.times().children_user
    result = run("-c", PROBE, door, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
    assert _imported(result.stderr) == []
    assert os.times().children_user - children < HELP_SECONDS


@pytest.mark.parametrize("door", DOORS)
def test_an_unknown_flag_is_one_line_and_code_2(door: str) -> None:
    result = run("-c", PROBE, door, "--no_such_flag", "1")
    assert result.returncode == 2
    said = result.stderr.partition("HEAVY:")[0]
    assert said.startswith("error: ") and said.count("\n") == 1
    assert _imported(result.stderr) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("eval.py", "--benchmark", "free_m", "--model", "mini"), "free_m"),
        (("inference.py", "playground/test_images", "--model", "minni"), "did you mean mini"),
        (("inference.py", "absent.jpg"), "absent.jpg"),
        (("train.py", "--config", "absent.yaml"), "absent.yaml"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("program", ["train", "eval", "infer", "assets"])
def test_the_console_script_reaches_every_program(program: str) -> None:
    result = run("-m", "ffaa", program, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()


def test_the_console_script_lists_its_programs() -> None:
    result = run("-m", "ffaa")
    assert result.returncode == 0
    assert all(program in result.stdout for program in ("train", "eval", "infer", "assets"))


def test_the_console_script_suggests_a_name() -> None:
    result = run("-m", "ffaa", "evall")
    assert result.returncode == 2
    assert result.stderr == "error: unknown program 'evall', did you mean eval? (ffaa --help lists them)\n"
