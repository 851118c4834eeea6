"""A large result is summed up again in seconds, intervals and all."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from ffaa.evaluation.result_folder import rescore

N = 100_000
ANSWER = {"text": "Analysis result: fake " * 30, "question": "q" * 80, "description": "d" * 200, "reasoning": "r" * 300}


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_a_hundred_thousand_lines_in_seconds(tmp_path: Path, grouped: bool) -> None:
    rng = random.Random(0)
    with (tmp_path / "predictions.jsonl").open("w") as file:
        for index in range(N):
            label = rng.choice(["real", "fake"])
            score = min(1.0, max(0.0, rng.gauss(0.4 + 0.2 * (label == "fake"), 0.2)))
            said = {"verdict": rng.choice(["real", "fake"]), "finished": True, "forgery_type": "None", "score": score}
            answers = [{**ANSWER, **said, "hypothesis": of, "opening_score": score} for of in ("none", "real", "fake")]
            line = {
                "id": f"{index}.png", "label": label, "forgery_type": None, "status": "ok", "error": None,
                "verdict": "fake" if score > 0.5 else "real", "score": score, "answers": answers, "chosen": 0,
                "difficulty": "hard", "probability": score, "uncertain": False,
            }  # fmt: skip
            if grouped:
                line["group"] = f"{label} {index % 2000}"
            file.write(json.dumps(line) + "\n")
    began = time.process_time()
    summary = rescore(tmp_path)
    seconds = time.process_time() - began
    method = summary["decisions"]["method"]
    assert method["n"] == N and None not in (method["auc_interval"], method["average_precision_interval"])
    assert (summary["groups"]["videos"] is not None) == grouped
    assert seconds < 10, f"{seconds:.1f} s of processor time"
