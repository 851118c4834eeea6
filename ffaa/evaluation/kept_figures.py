"""Figures kept in a file, with what they were made from: others do not take their place unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffaa.config import read_json
from ffaa.types import InputError


def check_replaceable(file: Path, made: Mapping[str, Any]) -> None:
    """That the figures in a file, if it is there, are of the same settings, weights and data as those to come.

    Args:
        file: the JSON file.
        made: what the new figures are made from (``settings``, ``fingerprint``, ``data``), JSON-ready.

    Raises:
        InputError: the file is of others, or does not say, or cannot be read.
    """
    if not file.exists():
        return
    before = read_json(file)
    for key, value in made.items():
        if before.get(key) != value:
            was, is_now = _apart(before.get(key), value)
            raise InputError(f"{file} was made with {key} {was}, not {is_now}; give another --out, or remove it")


def _apart(before: object, now: object) -> tuple[str, str]:
    """Only what differs of two mappings."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ("nothing" if before is None else str(before)), str(now)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    was, is_now = ({key: side.get(key) for key in keys} for side in (before, now))
    return str(was), str(is_now)
