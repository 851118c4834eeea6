"""Seconds in which a large result is read and all its figures are made again, intervals included (`--score_only`).

The predictions are made up, as large as real ones: three answers of some 700 characters a picture.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffaa.config import Switch, dump_yaml, parse
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door

ANSWER = {"text": "Analysis result: fake " * 30, "question": "q" * 80, "description": "d" * 200, "reasoning": "r" * 300}
CHECK = "import sys, eval\ncode = eval.main()\nassert 'torch' not in sys.modules\nsys.exit(code)"


@dataclass(frozen=True)
class Options:
    pictures: int = 100_000
    """Lines of predictions."""
    videos: int = 2_000
    """Videos of each class that the pictures are frames of, in the second measurement."""
    only_plain: Switch = False
    """Without that one."""


def main() -> int:
    options = parse(Options, prog="rescoring.py", description=__doc__ or "")
    for videos in (0, options.videos)[: 1 if options.only_plain else 2]:
        with tempfile.TemporaryDirectory() as folder:
            size = write_result(Path(folder), options.pictures, videos)
            began = time.perf_counter()
            command = [sys.executable, "-c", CHECK, "--score_only", folder]
            subprocess.run(command, cwd=PROJECT_ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
        kind = f"frames of {2 * videos} videos" if videos else "pictures"
        print(f"{options.pictures} {kind}, {size / 1e6:.0f} MB: {seconds:.1f} s, without PyTorch")
    return EXIT_DONE


def write_result(folder: Path, pictures: int, videos: int) -> int:
    """A result folder of made-up predictions; the bytes of its lines."""
    draw = random.Random(0)
    dump_yaml({"benchmark": "made_up", "method": "ffaa"}, folder / "config.yaml")
    with (folder / "predictions.jsonl").open("w") as file:
        for index in range(pictures):
            file.write(json.dumps(_line(index, videos, draw)) + "\n")
        return file.tell()


def _line(index: int, videos: int, draw: random.Random) -> dict[str, Any]:
    label = draw.choice(["real", "fake"])
    score = min(1.0, max(0.0, draw.gauss(0.4 + 0.2 * (label == "fake"), 0.2)))
    said = {"verdict": draw.choice(["real", "fake"]), "finished": True, "forgery_type": "None", "score": score}
    answers = [{**ANSWER, **said, "hypothesis": of, "opening_score": score} for of in ("none", "real", "fake")]
    line = {
        "id": f"{index}.png", "label": label, "forgery_type": None, "status": "ok", "error": None,
        "verdict": "fake" if score > 0.5 else "real", "score": score, "answers": answers, "chosen": 0,
        "difficulty": "hard", "probability": score, "uncertain": False,
    }  # fmt: skip
    return {**line, "group": f"{label} {index % videos}"} if videos else line


if __name__ == "__main__":
    run_door(main)
