"""Saved states of a training: whole, or not there.

A state is written beside its place, each file brought to the disk and its hash listed in ``state.json``; only then does
it get its name. The one before stays until the new one was read back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ffaa.runtime import atomic_write_text, make_readable, sha256_file
from ffaa.types import InputError

log = logging.getLogger(__name__)

STATE_FILE = "state.json"
PREFIX = "checkpoint-"
UNFINISHED = ".unfinished"
"""Folder in which states are written."""
KEPT = 2
"""So many states stay: should the last one's disk fail, there is one before it."""


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def made_beside(place: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``place`` at the end of the block; where the block fails, nothing changes.

    A kill between the two last steps leaves the old folder whole under its hidden name; the next call puts it back.
    """
    place = place.resolve()
    new, old = (place.with_name(f".{place.name}.{word}") for word in ("new", "old"))
    place.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not place.exists():
        os.replace(old, place)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        for path in [*new.rglob("*"), new]:
            if path.is_file():  # safetensors writes for its owner alone; a server often runs as another user
                make_readable(path)
            sync(path)
        if place.exists():
            os.replace(place, old)
        os.replace(new, place)
        sync(place.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Bring every file of a written state to the disk and list it with its size and SHA-256 in ``state.json``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STATE_FILE)
    for path in files:
        sync(path)
    listed = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(inner)
    atomic_write_text(folder / STATE_FILE, json.dumps({**facts, "files": listed}, indent=2) + "\n")
    sync(folder)


def read_state(folder: Path) -> dict[str, Any] | None:
    """What a state says of itself; None where it was not written to its end, or a file of it is not what it was."""
    try:
        facts: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        for name, file in facts["files"].items():
            path = folder / name
            if path.stat().st_size != file["bytes"] or sha256_file(path) != file["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts


def publish(written: Path, place: Path) -> None:
    """Give a sealed state its name, read it back, and remove states that are no longer needed.

    Raises:
        InputError: what was read back is not what was written; the states before it stay.
    """
    if place.exists():
        shutil.rmtree(place)  # of the same step, and passed over as not whole
    os.replace(written, place)
    sync(place.parent)
    if read_state(place) is None:
        raise InputError(f"{place} reads back other than it was written; is the disk sound? The state before it stays")
    step = step_of(place)  # a later state is one that was passed over, and stands in for none
    for old in [path for path in states(place.parent) if step_of(path) < step][KEPT - 1 :]:
        shutil.rmtree(old)


def states(folder: Path) -> list[Path]:
    """The states in a folder, newest first, whole or not."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=step_of, reverse=True)


def step_of(state: Path) -> int:
    """The step after which a state was saved."""
    return int(state.name.removeprefix(PREFIX))


def last_whole_state(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole state in a folder and what it says of itself; one that is not whole is passed over."""
    for path in states(folder):
        if (facts := read_state(path)) is not None:
            return path, facts
        log.warning("%s is not whole and is passed over", path)
    return None


@contextlib.contextmanager
def saving(place: Path) -> Iterator[None]:
    """Raises InputError, within it, where the file system takes no more of what is written to ``place``."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_refused_write(error):
            raise
        raise InputError(
            f"cannot save {place}: the disk takes no more ({error}); what was saved before it stays"
        ) from error


def is_refused_write(error: Exception) -> bool:
    """Whether saving failed since the file system took no more; torch and safetensors say it each in its own way."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    said = str(error).lower()
    # The first two are torch's, of a file that could not be begun and of one that could not be ended.
    return any(words in said for words in ("file write failed", "unexpected pos", "no space left", "i/o error"))
