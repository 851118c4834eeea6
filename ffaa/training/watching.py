"""What the model says while it is trained: of eight fixed pictures, and of a subset whose verdicts are counted.

None of it touches the training: the random streams and the model's mode are what they were.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerCallback

from ffaa.methods.base import StageRun, Watch
from ffaa.methods.stage_config import StageConfig
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import atomic_write_text, make_folder
from ffaa.training.reports import Events, reporters
from ffaa.training.samples import balanced, report, sheet
from ffaa.training.state import saving, sync
from ffaa.training.zero import whole
from ffaa.types import Analysis

if TYPE_CHECKING:
    from ffaa.training.trainer import StageTrainer

PICTURES = 8
"""Fixed pictures whose answers are kept."""
VALIDATION_FILE = "validation.json"
"""Beside the best result: its figures."""


def watchers(trainer: StageTrainer, run: StageRun, config: StageConfig) -> list[TrainerCallback]:
    """The callbacks that a stage's options ask for."""
    found: list[TrainerCallback] = []
    events = None
    if "tensorboard" in reporters(config):
        events = Events(config.output / "tensorboard")
        found.append(events)
    if run.watch is None or not run.watch.labels:
        return found
    if config.sample_steps:
        found.append(Samples(trainer, run.watch, config, events))
    if config.validation_steps:
        found.append(Validation(trainer, run, run.watch, config))
    return found


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within it the model is in eval mode; after it, it and every random stream are as they were."""
    training = model.training
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            random.setstate(states[0])
            np.random.set_state(states[1])


class _Asks(TrainerCallback):
    """Asks the model about pictures, as many at once as it is trained on.

    Under ZeRO-3 each layer is put together by all ranks as one comes to it. They all ask as often then; within a block
    transformers keeps them in step until the longest answer of all ranks has ended.
    """

    def __init__(self, trainer: StageTrainer, watch: Watch, config: StageConfig) -> None:
        self.trainer = trainer
        self.watch = watch
        self.config = config
        self.in_step = config.zero_stage() == 3

    def ask(self, indices: Sequence[int]) -> list[Analysis]:
        """The model's analyses of pictures, in order."""
        model, size = self.trainer.model, self.config.batch_size
        # Autocast as in training: what learns is float32, what is frozen may be less.
        with undisturbed(model), self.trainer.speed.paused(), self.trainer.accelerator.autocast():
            blocks = [indices[start : start + size] for start in range(0, len(indices), size)]
            return [analysis for block in blocks for analysis in self.watch.analyze(block)]


class Samples(_Asks):
    """``samples/step-N.txt`` and ``.png``: the answers to eight fixed pictures, by the first rank."""

    def __init__(self, trainer: StageTrainer, watch: Watch, config: StageConfig, events: Events | None) -> None:
        super().__init__(trainer, watch, config)
        self.events = events
        self.chosen = balanced(watch.labels, PICTURES, config.seed)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        first = state.is_world_process_zero
        if state.global_step % self.config.sample_steps or not (first or self.in_step):
            return
        analyses = self.ask(self.chosen)
        if first:
            self.show(analyses, state.global_step)

    def show(self, analyses: Sequence[Analysis], step: int) -> None:
        """Writes both files, and both to TensorBoard."""
        shown = [self.watch.pictures[i] for i in self.chosen], [self.watch.labels[i] for i in self.chosen]
        text, picture = report(*shown, analyses), sheet(*shown, analyses)
        folder = self.config.output / "samples"
        make_folder(folder)
        atomic_write_text(folder / f"step-{step}.txt", text)
        picture.save(folder / f"step-{step}.png")
        if self.events is not None and self.events.tb_writer is not None:
            writer = self.events.tb_writer
            indented = "\n".join("    " + line for line in text.splitlines())  # so that Markdown leaves it as it is
            writer.add_text("samples/answers", indented, step)
            writer.add_image("samples/pictures", np.asarray(picture), step, dataformats="HWC")


class Validation(_Asks):
    """Verdict accuracy and AUC over a fixed subset, each picture by one rank; ``best/`` is the best result so far."""

    def __init__(self, trainer: StageTrainer, run: StageRun, watch: Watch, config: StageConfig) -> None:
        super().__init__(trainer, watch, config)
        self.run = run
        self.chosen = balanced(watch.labels, config.validation_samples, config.seed)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            recover(self.config.output, afresh=state.global_step == 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.config.validation_steps and state.global_step < state.max_steps:
            return
        mine = self.chosen[args.process_index :: args.world_size]
        most = -(-len(self.chosen) // args.world_size)
        asked = [*mine, *self.chosen[: most - len(mine)]] if self.in_step else mine
        analyses = self.ask(asked)[: len(mine)]
        said = [(index, a.verdict.value, a.score) for index, a in zip(mine, analyses, strict=True)]
        figures = self.figures(gather_object(said))
        due = control.should_log
        self.trainer.log(
            {f"eval_verdict_{name}": v for name in ("accuracy", "auc") if (v := figures[name]) is not None}
        )
        control.should_log = due  # which logging takes back, and with it the loss of this very step
        with whole(self.trainer.result):
            if state.is_world_process_zero:
                keep_best(self.run, self.config.output, {"step": state.global_step, **figures})

    def figures(self, said: Sequence[tuple[int, str, float]]) -> dict[str, float | None]:
        """``accuracy``, ``auc`` (None unless both classes occur) and the number of ``pictures``."""
        said = sorted(said)
        if [index for index, _, _ in said] != sorted(self.chosen):
            raise RuntimeError("the ranks did not look at each picture once")
        labels = [self.watch.labels[index] for index, _, _ in said]
        right = sum(verdict == label for (_, verdict, _), label in zip(said, labels, strict=True))
        auc = roc_auc([label == "fake" for label in labels], [score for _, _, score in said])
        return {"accuracy": right / len(said), "auc": auc, "pictures": len(said)}


def places(output: Path) -> tuple[Path, Path, Path]:
    """The best result, the one that is being written, and the one before while it is replaced."""
    return output / "best", output / ".best.unfinished", output / ".best.before"


def recover(output: Path, *, afresh: bool) -> None:
    """Put right what a killed run left; ``afresh``: from the first step, before which nothing was best."""
    best, unfinished, before = places(output)
    if before.is_dir() and not best.exists() and not afresh:
        os.replace(before, best)
    for folder in (unfinished, before, *([best] if afresh else [])):
        shutil.rmtree(folder, ignore_errors=True)


def read_best(output: Path) -> dict[str, Any] | None:
    """The figures of the best result so far; None without one."""
    try:
        found: dict[str, Any] = json.loads((places(output)[0] / VALIDATION_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def keep_best(run: StageRun, output: Path, figures: dict[str, Any]) -> None:
    """Replace the best result, whole, where these figures are better: a higher AUC, or the same and more right.

    Raises:
        InputError: the disk does not take it; the best so far stays.
    """
    now = read_best(output)
    if now is not None and _rank(figures) <= _rank(now):
        return
    best, unfinished, before = places(output)
    with saving(best):
        run.save(unfinished)
        atomic_write_text(unfinished / VALIDATION_FILE, json.dumps(figures, indent=2) + "\n")
        for path in [*unfinished.rglob("*"), unfinished]:
            sync(path)
        if best.exists():
            os.replace(best, before)
        os.replace(unfinished, best)
        sync(output)
    shutil.rmtree(before, ignore_errors=True)


def _rank(figures: dict[str, Any]) -> tuple[float, float]:
    return -1.0 if figures["auc"] is None else figures["auc"], figures["accuracy"]
