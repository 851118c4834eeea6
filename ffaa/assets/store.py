"""The cache of finished assets: where it is, what is in it, and how a folder appears in it whole or not at all.

Layout: ``<cache>/assets/<name>/`` with the asset's files and ``manifest.json``, ``<cache>/assets/.<name>-*`` for a
folder being made, ``<cache>/locks/<name>.lock``. ``<cache>`` is ``$FFAA_HOME`` or ``~/.cache/ffaa``.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ffaa.assets.table import Asset
from ffaa.runtime import sha256_file
from ffaa.types import InputError

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where an asset's files come from: ``kind`` is ``wheel`` or ``hub``; ``facts`` go into its manifest."""

    kind: str
    facts: Mapping[str, str]


def cache_home() -> Path:
    """The cache: ``$FFAA_HOME``, else ``~/.cache/ffaa``."""
    home = os.environ.get("FFAA_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "ffaa"


def asset_folder(name: str) -> Path:
    """Where the finished asset is, or will be."""
    return cache_home() / "assets" / name


def read_manifest(name: str) -> dict[str, Any] | None:
    """The manifest of a finished asset; None where there is none that can be read."""
    try:
        manifest = json.loads((asset_folder(name) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == MANIFEST_FORMAT else None


def is_ready(asset: Asset, kind: str | None = None) -> bool:
    """Whether the asset is there, made from what the table pins (or from the hub), every file with its size.

    ``kind`` asks for one origin, ``wheel`` or ``hub``. Contents are not hashed here: that is ``broken_files``.
    """
    manifest = read_manifest(asset.name)
    if manifest is None or manifest.get("conversion_version") != asset.conversion_version:
        return False
    if kind is not None and manifest.get("source") != kind:
        return False
    if manifest.get("source") == "wheel" and manifest.get("sha256") != asset.sha256:
        return False
    folder = asset_folder(asset.name)
    try:
        return all((folder / name).stat().st_size == facts["bytes"] for name, facts in manifest["files"].items())
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def broken_files(name: str) -> list[str]:
    """Rehash a finished asset: names of files that are missing or changed, sorted; ``manifest.json`` if that is."""
    manifest = read_manifest(name)
    if manifest is None or not isinstance(manifest.get("files"), dict):
        return [MANIFEST]
    folder = asset_folder(name)
    broken = []
    for file, facts in sorted(manifest["files"].items()):
        try:
            if sha256_file(folder / file) != facts["sha256"]:
                broken.append(file)
        except OSError:
            broken.append(file)
    return broken


@contextmanager
def one_line_errors(asset_name: str) -> Iterator[None]:
    """Turn what the file system refuses into an InputError that says what to do."""
    home = cache_home()
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk of {home} is full; free some space or set FFAA_HOME to a folder on another disk"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"no permission for {error.filename or home} ({error.strerror}); {_permission_hint(error)}"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            message = f"{error.filename or home} is in the way: it is not a folder; move it or set FFAA_HOME"
        else:
            message = f"{error.strerror or error} ({error.filename or home})"
        raise InputError(f"asset {asset_name}: {message}") from error


def _permission_hint(error: OSError) -> str:
    inside = error.filename is None or Path(str(error.filename)).is_relative_to(cache_home())
    return "set FFAA_HOME to a folder that you may write to" if inside else "make it readable"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the asset's lock; waits for another process that holds it. The system frees it when a process dies."""
    path = cache_home() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: another process is fetching it, waiting", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_space(asset: Asset) -> None:
    """Refuse to start what cannot fit on the cache's disk. Raises InputError."""
    _check_free(f"asset {asset.name}", asset.needed_mb)


def check_total_space(assets: Sequence[Asset]) -> None:
    """The same for several: all finished folders, and the largest of the files needed on the way."""
    if assets:
        with one_line_errors(", ".join(asset.name for asset in assets)):
            finished = sum(asset.size_mb for asset in assets)
            _check_free(f"{len(assets)} assets", finished + max(a.needed_mb - a.size_mb for a in assets))


def _check_free(what: str, needed_mb: float) -> None:
    home = cache_home()
    home.mkdir(parents=True, exist_ok=True)
    free_mb = shutil.disk_usage(home).free / 1e6
    if free_mb < needed_mb:
        raise InputError(
            f"{what}: {needed_mb:.0f} MB needed in {home}, {free_mb:.0f} MB are free; "
            "free some space or set FFAA_HOME to a folder on another disk"
        )


@contextmanager
def workshop(name: str) -> Iterator[Path]:
    """An empty folder beside the finished assets, gone afterwards. The caller holds the lock.

    What a killed process left there is removed first.
    """
    parent = asset_folder(name).parent
    parent.mkdir(parents=True, exist_ok=True)
    sweep(name)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(name: str) -> None:
    """Remove unfinished folders of the asset; the caller holds its lock."""
    for left in asset_folder(name).parent.glob(f".{name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def install(asset: Asset, made: Path, origin: Origin, shop: Path) -> Path:
    """Write the manifest of the folder ``made`` and move it into the cache in one step; returns where it is now.

    An older one is moved into ``shop``, to be removed with it.
    """
    files = {
        file.relative_to(made).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(made.rglob("*"))
        if file.is_file()
    }
    manifest = {
        "format": MANIFEST_FORMAT,
        "name": asset.name,
        "licence": asset.licence,
        "source": origin.kind,
        "conversion": asset.conversion,
        "conversion_version": asset.conversion_version,
        **origin.facts,
        "files": files,
    }
    (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    target = asset_folder(asset.name)
    if target.exists() or target.is_symlink():
        os.replace(target, shop / "replaced")
    os.replace(made, target)
    return target


def clear(name: str) -> bool:
    """Remove an asset from the cache; True if there was one. Raises InputError when that is not allowed."""
    with one_line_errors(name):
        if not cache_home().is_dir():
            return False
        with locked(name):
            sweep(name)
            target = asset_folder(name)
            if not target.exists():
                return False
            with workshop(name) as shop:
                os.replace(target, shop / "removed")
    return True
