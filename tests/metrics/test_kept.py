"""Figures of other settings, weights or pictures do not take a file's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffaa.metrics.kept import check_replaceable
from ffaa.types import InputError


def test_figures_made_otherwise_are_not_replaced() -> None:
    file, made = Path("x.json"), {"settings": {"limit": -1, "layers": [1, 2]}, "fingerprint": {"m": "a"}, "data": "d"}
    before = {**made, "rows": {}}
    check_replaceable(file, before, made)
    with pytest.raises(InputError, match=r"made with settings {'limit': -1}, not {'limit': 10}; give another --out"):
        check_replaceable(file, before, {**made, "settings": {"limit": 10, "layers": [1, 2]}})
    with pytest.raises(InputError, match=r"made with fingerprint {'m': 'a'}, not {'m': 'b'}"):
        check_replaceable(file, before, {**made, "fingerprint": {"m": "b"}})
    with pytest.raises(InputError, match="made with data d, not e"):
        check_replaceable(file, before, {**made, "data": "e"})
    with pytest.raises(InputError, match="made with settings nothing, not "):
        check_replaceable(file, {}, made)
