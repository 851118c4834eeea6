"""Limits that keep the code readable, checked on every file that git would keep."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from ffaa.runtime import PROJECT_ROOT

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_DOOR_LINES = 80
DOORS = ("train.py", "eval.py", "eval_llava.py", "inference.py")
TEXT = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".json", ".cff", ".txt", ""}
# A home folder or a mount of one machine; system paths such as /proc/cpuinfo are no machine's own.
MACHINE_PATH = re.compile(r"(?<![\w./<>-])/(?:home|Users|root|work|mnt|scratch)/\w+")


def _kept_files() -> list[Path]:
    """Files of the project, git-ignored ones left out; all files where there is no repository (a source archive)."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := PROJECT_ROOT / name).is_file()]


FILES = _kept_files()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def _name(path: Path) -> str:
    return path.relative_to(PROJECT_ROOT).as_posix()


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_seen() -> None:
    assert {"ffaa/types.py", "tests/test_style.py"} <= {_name(path) for path in PYTHON}


def test_no_long_file() -> None:
    assert not [f"{_name(path)}: {_lines(path)} lines" for path in PYTHON if _lines(path) > MAX_FILE_LINES]


def test_doors_are_thin() -> None:
    assert not [
        f"{door}: {_lines(PROJECT_ROOT / door)}" for door in DOORS if _lines(PROJECT_ROOT / door) > MAX_DOOR_LINES
    ]


def test_no_long_function() -> None:
    long = []
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{_name(path)}:{node.lineno} {node.name}: {lines} lines")
    assert not long


def test_the_package_logs_and_does_not_print() -> None:
    prints = [
        f"{_name(path)}:{node.lineno}"
        for path in PYTHON
        if path.is_relative_to(PROJECT_ROOT / "ffaa")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints


def test_no_error_is_swallowed() -> None:
    broad = []
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kind = node.type
                if kind is None or (isinstance(kind, ast.Name) and kind.id == "Exception"):
                    broad.append(f"{_name(path)}:{node.lineno}")
    assert not broad


def test_public_things_of_the_package_are_described() -> None:
    bare = []
    for path in PYTHON:
        if not path.is_relative_to(PROJECT_ROOT / "ffaa"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree) and tree.body:
            bare.append(_name(path))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                bare.append(f"{_name(path)}:{node.lineno} {node.name}")
    assert not bare


@pytest.mark.parametrize("suffix", sorted(TEXT))
def test_no_path_of_one_machine(suffix: str) -> None:
    found = []
    for path in FILES:
        if path.suffix != suffix or path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a file without suffix may be binary
        found += [f"{_name(path)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert not found


def test_no_committed_file_is_huge() -> None:
    limit = 80 * 2**20
    assert not [_name(path) for path in FILES if path.stat().st_size > limit]
