"""Hashes, manifests, devices, and how a program ends."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ffaa import runtime
from ffaa.types import InputError, Verdict


@dataclass(frozen=True)
class _Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class _Config:
    name: str = "mini"
    inner: _Inner = _Inner()
    layers: tuple[int, ...] = (4, 8)


def _exit_code(main: Callable[[], int]) -> int:
    with pytest.raises(SystemExit) as ended:
        runtime.run_door(main)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("code", [runtime.EXIT_DONE, runtime.EXIT_PARTIAL])
def test_a_door_exits_with_its_code(code: int) -> None:
    assert _exit_code(lambda: code) == code


def test_bad_input_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise InputError("photo.jpg: not an image\n  at all")

    assert _exit_code(main) == 2
    assert capsys.readouterr().err == "error: photo.jpg: not an image at all\n"


def test_interrupt_is_130() -> None:
    def main() -> int:
        raise KeyboardInterrupt

    assert _exit_code(main) == 130


def test_a_bug_keeps_its_traceback() -> None:
    def main() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runtime.run_door(main)


def test_a_path_that_cannot_be_used_is_bad_input_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    def main() -> int:
        runtime.atomic_write_text(tmp_path / "file" / "result.json", "{}")
        return 0

    assert _exit_code(main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "file" in said


def test_an_absent_file_that_no_check_foresaw_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        runtime.run_door(lambda: len((tmp_path / "absent").read_text()))


def test_names_that_are_no_text_are_shown_and_a_closed_pipe_is_quiet() -> None:
    door = "from ffaa.runtime import run_door\n"
    shown = subprocess.run(
        [sys.executable, "-c", f"{door}run_door(lambda: print('a\\udcff.jpg') or 0)"],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, cwd=runtime.PROJECT_ROOT,
    )  # fmt: skip
    assert shown.stdout == b"a\\udcff.jpg\n"
    piped = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}', sys.executable,
         f"{door}import time\ntime.sleep(1)\nrun_door(lambda: print('x' * 100000) or 0)"],
        capture_output=True, check=False, cwd=runtime.PROJECT_ROOT,
    )  # fmt: skip
    assert (piped.returncode, piped.stderr) == (runtime.EXIT_BROKEN_PIPE, b"")


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root, ours = logging.getLogger(), logging.getLogger("ffaa")
    before = (root.level, list(root.handlers), ours.level)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])


def test_sha256_file_is_the_published_value(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert runtime.sha256_file(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_folder_sees_names_and_contents_but_not_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a.txt").write_text("a")
        (tmp_path / name / "b.txt").write_text("b")
    first = runtime.sha256_folder(tmp_path / "one")
    assert first == runtime.sha256_folder(tmp_path / "two")
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    renamed = runtime.sha256_folder(tmp_path / "two")
    assert renamed != first
    (tmp_path / "two" / "c.txt").write_text("changed")
    assert runtime.sha256_folder(tmp_path / "two") not in (first, renamed)


def test_sha256_folder_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        runtime.sha256_folder(tmp_path / "absent")


def test_config_hash_is_golden_and_ignores_the_order_of_keys() -> None:
    assert runtime.config_hash({"a": 1}) == "015abd7f"
    assert runtime.config_hash({"a": 1, "b": [2]}) == runtime.config_hash({"b": (2,), "a": 1})
    assert runtime.config_hash(_Config()) == runtime.config_hash(
        {"name": "mini", "inner": {"rate": 0.5}, "layers": [4, 8]}
    )
    assert runtime.config_hash(_Config()) != runtime.config_hash(_Config(inner=_Inner(0.4)))


def test_to_plain_knows_what_configs_hold() -> None:
    plain = runtime.to_plain({"verdict": Verdict.FAKE, "path": Path("a/b"), "set": {2, 1}, "none": None, "yes": True})
    assert plain == {"verdict": "fake", "path": "a/b", "set": [1, 2], "none": None, "yes": True}
    assert type(plain["verdict"]) is str
    with pytest.raises(TypeError, match="object"):
        runtime.to_plain({"thing": object()})


def test_atomic_write_replaces_whole_files_and_leaves_no_others(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    runtime.atomic_write_text(target, "ä1\n")
    runtime.atomic_write_text(target, "2\n")
    assert target.read_text(encoding="utf-8") == "2\n"
    assert [item.name for item in target.parent.iterdir()] == ["file.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    runtime.atomic_write_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        runtime.atomic_write_text(target, "half \ud800")
    assert target.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


def test_a_name_that_a_folder_has_leaves_no_file_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        runtime.atomic_write_text(tmp_path / "folder", "text")
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_manifest_tells_versions_and_given_facts(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    runtime.write_manifest(path, weights={"mllm": "abc"}, config=_Config())
    manifest = json.loads(path.read_text())
    assert manifest["weights"] == {"mllm": "abc"}
    assert manifest["config"]["inner"] == {"rate": 0.5}
    assert {"torch", "transformers", "peft"} <= manifest["packages"].keys()
    assert {"created", "command", "git_revision", "python", "platform"} <= manifest.keys()


def test_git_revision_is_none_outside_a_repository(tmp_path: Path) -> None:
    assert runtime.git_revision(tmp_path) is None


def test_closest_names() -> None:
    assert runtime.closest("free_m", ["free_ma", "free_people", "dfd"]).startswith(", did you mean free_ma")
    assert runtime.closest("zzz", ["free_ma"]) == ""


def test_ranks_are_read_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert runtime.Rank.of_this_process() == runtime.Rank(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert runtime.Rank.of_this_process() == runtime.Rank(2, 4)
    for rank, count in (("4", "4"), ("-1", "4"), ("one", "2"), ("0", "0")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", count)
        with pytest.raises(InputError, match="no process among several"):
            runtime.Rank.of_this_process()


def test_devices_and_dtypes() -> None:
    import torch

    cpu = runtime.pick_device("cpu")
    assert cpu == torch.device("cpu")
    assert runtime.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.pick_dtype("float32", cpu) is torch.float32
    assert runtime.pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    for bad in ("tpu", "cuda:x", "cuda:99"):
        with pytest.raises(InputError, match=bad):
            runtime.pick_device(bad)
    with pytest.raises(InputError, match="float31"):
        runtime.pick_dtype("float31", cpu)


def test_seeds_make_draws_repeat() -> None:
    import random

    import numpy as np
    import torch

    def draws() -> list[float]:
        runtime.seed_everything(2**32 - 1)
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]

    assert draws() == draws()
    for bad in (-1, 2**32):
        with pytest.raises(InputError, match="seed"):
            runtime.seed_everything(bad)


def test_a_hash_may_be_of_names_that_are_no_text() -> None:
    assert len({runtime.config_hash("caf\udce9.jpg"), runtime.config_hash("café.jpg")}) == 2


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with (
        runtime.locked(tmp_path, ".lock"),
        pytest.raises(InputError, match="another process"),
        runtime.locked(tmp_path, ".lock"),
    ):
        raise AssertionError
    with runtime.locked(tmp_path, ".lock"), runtime.locked(tmp_path, ".another"):
        pass
