"""Shared by all tests: no network, and a place of its own for whatever a test writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests never reach for a hub: what they need is fetched before by scripts/test.sh, or made by the tests themselves.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["FFAA_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test is one process of one, whatever launched it, and knows no answers but its own."""
    monkeypatch.setenv("FFAA_ANSWERS", str(tmp_path / "kept-answers"))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "FFAA_SMOKE"):
        monkeypatch.delenv(name, raising=False)
