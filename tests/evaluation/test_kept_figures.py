"""Figures of other settings, weights or pictures do not take a file's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffaa.evaluation.kept_figures import check_replaceable
from ffaa.types import InputError


def test_figures_made_otherwise_are_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    made = {"settings": {"limit": -1, "layers": [1, 2]}, "fingerprint": {"m": "a"}, "data": "d"}
    check_replaceable(file, made)  # nothing is there yet
    file.write_text(json.dumps({**made, "rows": {}}))
    check_replaceable(file, made)
    with pytest.raises(InputError, match=r"made with settings {'limit': -1}, not {'limit': 10}; give another --out"):
        check_replaceable(file, {**made, "settings": {"limit": 10, "layers": [1, 2]}})
    with pytest.raises(InputError, match=r"made with fingerprint {'m': 'a'}, not {'m': 'b'}"):
        check_replaceable(file, {**made, "fingerprint": {"m": "b"}})
    with pytest.raises(InputError, match="made with data d, not e"):
        check_replaceable(file, {**made, "data": "e"})
    file.write_text("{}")
    with pytest.raises(InputError, match="made with settings nothing, not "):
        check_replaceable(file, made)
