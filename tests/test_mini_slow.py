"""What only the real size shows, minutes each (``-m "slow and mini"``): equal answers in any batch, and three kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ffaa.backbones.adapter import load_mllm
from ffaa.backbones.generation import GenerationSettings, TransformersEngine
from ffaa.config import CONFIGS, load_yaml
from ffaa.data.benchmark import load_benchmark
from ffaa.data.images import open_image
from ffaa.dialogue.prompts import HYPOTHESIS_QUESTIONS, free_question
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import GeneratedText

pytestmark = [pytest.mark.slow, pytest.mark.mini]

PICTURES = int(os.environ.get("FFAA_SLOW_PICTURES", "50"))


@pytest.fixture(scope="module")
def free_ma() -> str:
    subprocess.run(
        [sys.executable, "scripts/data/build_benchmarks.py", "--only", "free_ma"], cwd=PROJECT_ROOT, check=True
    )
    return "free_ma"


def test_answers_together_equal_answers_one_by_one(free_ma: str) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    config = load_yaml(CONFIGS / "ffaa" / "mini" / "model.yaml", FfaaConfig)
    mllm = load_mllm(config.mllm, PROJECT_ROOT / str(config.checkpoint), dtype=torch.float32)
    engine = TransformersEngine(mllm, GenerationSettings(config.max_new_tokens))
    items = load_benchmark(free_ma).items[:PICTURES]
    images = [open_image(item.path) for item in items]
    asked = [(free_question(item.id), *HYPOTHESIS_QUESTIONS.values()) for item in items]
    prompts = [[mllm.prompt(question) for question in row] for row in asked]
    together: list[list[GeneratedText]] = []
    for start in range(0, len(items), 10):
        together += engine.generate(images[start : start + 10], prompts[start : start + 10])
    for image, row, expected in zip(images, prompts, together, strict=True):
        for prompt, answer in zip(row, expected, strict=True):
            [[alone]] = engine.generate([image], [[prompt]])
            assert (alone.text, alone.finished) == (answer.text, answer.finished)
            assert alone.score == pytest.approx(answer.score, abs=1e-5)


def evaluate(folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "eval.py", "--benchmark=free_ma", "--eval_num=24", "--dtype=float32", "--cache=0"]
    options = ["--block_size", "4", "--run", name, "--result_root", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, *options], cwd=PROJECT_ROOT, stdout=quiet, stderr=quiet)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / "free_ma" / name / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_three_kills_change_nothing(free_ma: str, tmp_path: Path) -> None:
    assert evaluate(tmp_path, "whole").wait() == 0
    rng, kills = random.Random(0), 0
    while kills < 3:
        process = evaluate(tmp_path, "killed")
        wanted = len(lines(tmp_path, "killed")) + rng.randrange(1, 6)
        while process.poll() is None and len(lines(tmp_path, "killed")) < wanted:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        time.sleep(rng.random() * 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 3
    assert evaluate(tmp_path, "killed").wait() == 0
    whole, killed = lines(tmp_path, "whole"), lines(tmp_path, "killed")
    assert [line["id"] for line in killed] == [line["id"] for line in whole]
    for one, other in zip(whole, killed, strict=True):
        assert (one["verdict"], one["chosen"]) == (other["verdict"], other["chosen"])
        assert [answer["text"] for answer in one["answers"]] == [answer["text"] for answer in other["answers"]]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
