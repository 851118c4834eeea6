"""``train.py`` in a process that dies as if by a power cut where ``KILL`` says: ``<where>:<step>:<rank or all>``.

``step`` is at the beginning of a training step; ``save``, ``seal`` and ``publish`` are within the writing of a state;
``after`` is so many tenths of a second after the first step.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import ffaa.training.trainer as trainer
from ffaa.runtime import run_door
from train import main

WHERE, STEP, RANK = os.environ["KILL"].split(":")


def die() -> None:
    if RANK in ("all", os.environ.get("RANK", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


train_step = trainer.StageTrainer.training_step


def step(self: trainer.StageTrainer, *arguments: Any, **keywords: Any) -> Any:
    if WHERE == "step" and self.state.global_step == int(STEP):
        die()
    if WHERE == "after" and not getattr(self, "timed", False):
        self.timed = True
        threading.Timer(int(STEP) / 10, die).start()
    return train_step(self, *arguments, **keywords)


trainer.StageTrainer.training_step = step
if WHERE in ("save", "seal", "publish"):
    name = {"save": "save_file"}.get(WHERE, WHERE)
    write = getattr(trainer, name)

    def cut(*arguments: Any, **keywords: Any) -> Any:
        if f"checkpoint-{STEP}" in str(arguments):
            if WHERE == "save":  # half of the file is there
                write(*arguments, **keywords)
                path = Path(arguments[1])
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            die()
        return write(*arguments, **keywords)

    setattr(trainer, name, cut)

if __name__ == "__main__":
    run_door(main)
