"""The file of the figures says what they were made from, and others do not take its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ffaa.evaluation import cached_method
from ffaa.types import Analysis, Answer, InputError, Request, Verdict
from scripts import measure_crop


class CallsEverythingFake:
    def __init__(self, weights: str) -> None:
        self.fingerprint = {"mids": weights}

    def analyze(self, requests: list[Request]) -> list[Analysis]:
        return [Analysis(Verdict.FAKE, 0.9, (Answer("", Verdict.FAKE, score=0.9),), id=one.id) for one in requests]


def test_figures_of_other_weights_or_pictures_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour, cached, out = "red", CallsEverythingFake("a"), tmp_path / "crop.json"

    def photographs(_: Path) -> Iterator[tuple[str, Request, Request]]:
        for name in ("a", "b"):
            one = Request(Image.new("RGB", (8, 8), colour), id=name)
            yield "real", one, one

    def run() -> None:
        monkeypatch.setattr(measure_crop, "photographs", photographs)
        monkeypatch.setattr(cached_method, "load_cached", lambda *_, **__: cached)
        monkeypatch.setattr(sys, "argv", ["measure_crop.py", "--out", str(out), "--device", "cpu"])
        assert measure_crop.main() == 0

    run()
    found = json.loads(out.read_text())
    assert found["fingerprint"] == {"mids": "a"} and found["settings"]["recipe"]["seed"] == measure_crop.RECIPE.seed
    assert found["agreement"]["n_correct"] == 2 and len(found["rows"]) == 2
    run()
    cached = CallsEverythingFake("b")
    with pytest.raises(InputError, match="made with fingerprint {'mids': 'a'}, not {'mids': 'b'}; give another --out"):
        run()
    cached, colour = CallsEverythingFake("a"), "blue"
    with pytest.raises(InputError, match="made with data"):
        run()
    assert json.loads(out.read_text()) == found
