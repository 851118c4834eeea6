"""Result folders and benchmarks of noise pictures, as evaluation would leave them, made in milliseconds."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffaa.metrics.detection import summarize

TYPES = ("Identity swap", "Face blending", "Attribute manipulation")


@dataclass(frozen=True)
class Toy:
    """A folder with ``benchmark/`` and ``results/``."""

    root: Path

    def benchmark(self, name: str, n: int) -> None:
        """Pictures 00000.jpg and so on, every second one forged, with a mask each."""
        folder = self.root / "benchmark" / name
        for part in ("imgs", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        random_ = np.random.default_rng(0)
        for number in range(n):
            pixels = random_.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(folder / "imgs" / f"{number:05d}.jpg")
            if number % 2:
                Image.fromarray(pixels[..., 0]).save(folder / "masks" / f"{number:05d}.png")

    def run(self, benchmark: str, n: int, name: str = "run", *, seed: int = 0, **changes: Any) -> Path:
        """A result of ``n`` pictures with three answers each; ``changes`` are put into the config."""
        folder = self.root / "results" / benchmark / name
        folder.mkdir(parents=True)
        lines = toy_lines(n, seed)
        write_lines(folder, lines)
        (folder / "summary.json").write_text(json.dumps(summarize(lines)))
        config = {"method": "ffaa", "model": "mini", "generate_num": 3, "seed": seed, "benchmark": benchmark} | changes
        (folder / "config.yaml").write_text(json.dumps(config | {"fingerprint": {"mllm": f"{seed:08x}"}}))
        (folder / "manifest.json").write_text(json.dumps({"created": "2026-01-01", "git_revision": "abc"}))
        return folder

    def heat_maps(self, folder: Path, n: int) -> None:
        """Two heat maps of each picture."""
        (folder / "heatmaps").mkdir()
        for number in range(n):
            for layer in (1, 2):
                Image.new("RGB", (32, 32), (number % 255, 0, 90 * layer)).save(
                    folder / "heatmaps" / f"{number:05d}_heat{layer}.png"
                )


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """``predictions.jsonl``."""
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def toy_lines(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Predictions of which most are right."""
    draw = random.Random(seed)
    return [_line(number, draw) for number in range(n)]


def _line(number: int, draw: random.Random) -> dict[str, Any]:
    label = "fake" if number % 2 else "real"
    score = round(min(0.99, max(0.01, draw.gauss(0.7 if label == "fake" else 0.3, 0.25))), 4)
    verdict = "fake" if score > 0.5 else "real"
    answers = [_answer("none", verdict, score)]
    for hypothesis in ("real", "fake"):
        answers.append(_answer(hypothesis, hypothesis if draw.random() < 0.2 else verdict, score))
    said = {answer["verdict"] for answer in answers}
    return {
        "id": f"{number:05d}.jpg", "label": label, "status": "ok", "error": None,
        "forgery_type": TYPES[number // 2 % len(TYPES)] if label == "fake" else None,
        "verdict": verdict, "score": score, "chosen": 0, "answers": answers, "match_scores": [0.8, 0.6, 0.4],
        "difficulty": "easy" if len(said) == 1 else "hard",
        "probability": score, "uncertain": 0.4 < score < 0.6,
    }  # fmt: skip


def _answer(hypothesis: str, verdict: str, score: float) -> Mapping[str, Any]:
    return {
        "text": f"Image description: a face.\nForgery reasoning: signs.\nAnalysis result: {verdict}",
        "question": "Is it real?", "hypothesis": hypothesis, "verdict": verdict, "finished": True, "score": score,
        "opening_score": score, "forgery_type": "Identity swap" if verdict == "fake" else "None",
    }  # fmt: skip
