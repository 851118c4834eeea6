"""The leak check finds what leaks, and nothing in sets without a leak."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from scripts.data import check_leaks
from scripts.data.check_leaks import Cues, background, border_squares, corner_places, measure, null_band, read_cues

N = 80


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _build(folder: Path, leak: str = "", kind: str = "swap") -> Path:
    """Pictures of noise whose middle is replaced in fakes; ``leak`` names what tells them besides."""
    rng = np.random.default_rng(0)
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = []
    for index in range(N):
        fake = index % 2 == 1
        ground = rng.uniform(90, 160, 3)
        pixels = ground + rng.normal(0, 20, (112, 112, 3))
        quality = int(rng.integers(72, 95))
        if fake:
            pixels[40:72, 40:72] = rng.uniform(0, 255, 3)
            if leak == "colour":
                pixels[..., 0] += 60
            if leak == "spectrum":
                pixels[:20] = cv2.GaussianBlur(pixels[:20], (0, 0), 2)
            if leak == "quality":
                quality -= 30
            mask = np.zeros((56, 56), np.uint8)
            mask[20:36, 20:36] = 255
            cv2.imwrite(str(folder / "masks" / f"{index}.png"), mask)
        (folder / "imgs" / f"{index}.jpg").write_bytes(_jpeg(pixels.clip(0, 255).astype(np.uint8), quality))
        line = {
            "image": f"imgs/{index}.jpg",
            "mask": f"masks/{index}.png" if fake else None,
            "kind": kind if fake else "real",
            "label": "fake" if fake else "real",
            "person": f"person-{index // 4}",
        }
        lines.append(json.dumps(line))
    (folder / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _of(cues: Cues) -> dict[str, float]:
    return {name: figure.auc for name, figure in measure(cues).items()}


def test_a_set_without_a_leak_is_within_chance(tmp_path: Path) -> None:
    figures = _of(read_cues(_build(tmp_path / "clean")))
    assert figures["resolution"] == 0.5
    assert max(figures.values()) < null_band(N // 2, N // 2) + 0.05, figures


@pytest.mark.parametrize(
    ("leak", "cue"), [("colour", "red"), ("spectrum", "border spectrum"), ("quality", "JPEG tables")]
)
def test_each_leak_is_found_by_its_cue(leak: str, cue: str, tmp_path: Path) -> None:
    assert _of(read_cues(_build(tmp_path / leak, leak)))[cue] > 0.85


def test_a_leak_ends_with_exit_code_two_and_an_exception_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ffaa.runtime import run_door

    for kind, code in (("swap", 2), ("synthesis", 0)):
        folder = _build(tmp_path / kind, "colour", kind)
        monkeypatch.setattr(sys, "argv", ["check_leaks.py", "--folder", str(folder), "--out", str(tmp_path / "a.json")])
        with pytest.raises(SystemExit) as stop:
            run_door(check_leaks.main)
        out, err = capsys.readouterr()
        assert stop.value.code == code
        assert ("swap: red" in err) == (code == 2)
        assert bool(re.search(r"\(0\.9\d\d\)|\(1\.000\)", out)) == (code == 0), "an excepted figure stands in brackets"
        assert json.loads((tmp_path / "a.json").read_text())[kind]["red"]["excepted"] == (code == 0)


def test_border_squares_go_round_the_picture() -> None:
    grid = np.arange(16).reshape(4, 4).repeat(2, 0).repeat(2, 1)
    squares = border_squares(grid, 2)
    assert squares[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]
    assert [int(squares[place, 0, 0]) for place in corner_places(len(squares))] == [0, 3, 12, 15]


def test_squares_that_forgeries_reach_are_no_background() -> None:
    masks = [np.zeros((56, 56), np.float32) for _ in range(10)]
    masks[0][28:] = 1
    kept = background(masks, 52)
    assert kept[:14].all() and not kept[-14:].any()
    with pytest.raises(check_leaks.InputError, match="no background"):
        background([np.ones((56, 56), np.float32)], 52)


def test_the_null_band_is_what_chance_stays_below() -> None:
    rng = np.random.default_rng(0)
    fake = np.arange(200) % 2 == 1
    aucs = [check_leaks.folded_auc(fake, rng.normal(size=200)) for _ in range(400)]
    assert null_band(100, 100) == pytest.approx(np.quantile(aucs, 0.95), abs=0.015)


def test_people_are_left_out_whole(tmp_path: Path) -> None:
    """A cue that only knows persons (each real or fake as a whole) says nothing about new ones."""
    rng = np.random.default_rng(1)
    people = np.repeat([f"person-{i}" for i in range(20)], 10)
    fake = np.repeat(rng.permutation(np.arange(20) % 2 == 1), 10)
    marks = np.repeat(rng.normal(size=(20, 12)), 10, axis=0) + rng.normal(0, 0.01, (200, 12))
    assert check_leaks.learnt_auc(fake, marks, people) < 0.8
