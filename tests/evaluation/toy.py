"""A method without a model, for tests of the runner, and a program that runs it on a folder (see ``main``)."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffaa.data.benchmark import Benchmark, load_benchmark, write_benchmark
from ffaa.dialogue.answers import format_answer, parse
from ffaa.evaluation.result_folder import Job, RunSettings
from ffaa.evaluation.runner import run_jobs
from ffaa.runtime import Rank
from ffaa.types import Analysis, Hypothesis, Request, Verdict


class ToyMethod:
    """Decides by the pictures' mean and, on purpose, a little by which others are in the block with them."""

    name = "toy"
    needs_face = False
    generate_num = 1
    fingerprint: Mapping[str, Any] = {"weights": "none"}

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.blocks: list[list[str]] = []

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        self.blocks.append([request.id for request in requests])
        time.sleep(self.seconds)
        shift = zlib.crc32(" ".join(request.id for request in requests).encode()) % 1000 / 1e5
        return [self._analysis(request, shift) for request in requests]

    def _analysis(self, request: Request, shift: float) -> Analysis:
        score = float(np.asarray(request.image).mean()) / 255 * 0.98 + shift
        verdict = Verdict.FAKE if score > 0.5 else Verdict.REAL
        other = Verdict.REAL if verdict is Verdict.FAKE else Verdict.FAKE
        answers = tuple(
            parse(
                format_answer(f"{request.id} \u2028 é", "because", said, 0.9, None), hypothesis=hypothesis, score=score
            )
            for said, hypothesis in [
                (verdict, Hypothesis.NONE),
                (verdict, Hypothesis(other)),
                (other, Hypothesis(verdict)),
            ]
        )
        matches = (max(score, 1 - score), None, 0.5)
        return Analysis(verdict, score, answers, 0, matches, ((1.0, 2.0, 3.0, 4.0),) * 3, request.id)


def make_benchmark(root: Path, n: int, name: str = "toy_set", *, typed: bool = False) -> Benchmark:
    """Grey pictures, the brighter half of them fake."""
    images = root / name / "imgs"
    images.mkdir(parents=True)
    labels: dict[str, str | tuple[str, str | None]] = {}
    for index in range(n):
        fake = index % 2 == 1
        Image.new("RGB", (8, 8), (index * 3 % 100 + 150 * fake,) * 3).save(images / f"{index:03}.png")
        label, kind = ("fake", "Identity swap") if fake else ("real", None)
        labels[f"{index:03}.png"] = (label, kind) if typed else label
    return write_benchmark(root / name, labels)


def main() -> None:
    """``toy.py BENCHMARK_ROOT OUT_DIR SECONDS_A_BLOCK``: one rank of a run over all its benchmarks, to be killed."""
    root, out_dir, seconds = sys.argv[1:]
    settings = RunSettings(config={"method": "toy"}, block_size=4)
    jobs = [
        Job(load_benchmark(folder.name, Path(root)), Path(out_dir) / folder.name, settings)
        for folder in sorted(Path(root).iterdir())
    ]
    summaries = run_jobs(ToyMethod(float(seconds)), jobs, rank=Rank.of_this_process())
    if summaries is not None:
        print(f"reported {len(summaries)}")


if __name__ == "__main__":
    main()
