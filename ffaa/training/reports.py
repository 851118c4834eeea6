"""Curves of a training: where they go, and those that transformers does not draw."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from transformers.integrations import TensorBoardCallback

from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.types import InputError

log = logging.getLogger(__name__)

_INSTALLED_BY = {"tensorboard": "pip install 'ffaa[train]'", "wandb": "pip install wandb"}


def reporters(config: StageConfig) -> list[str]:
    """Where curves go.

    Raises:
        InputError: one that was asked for is not installed. Without being asked for, TensorBoard may be missing.
    """
    for name in config.reporters or []:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--report_to {name}, which is not installed: {_INSTALLED_BY[name]}")
    if config.reporters is not None:
        return config.reporters
    if importlib.util.find_spec("tensorboard") is None:
        log.warning("no curves are drawn: TensorBoard is not installed (%s)", _INSTALLED_BY["tensorboard"])
        return []
    return ["tensorboard"]


def integrations(config: StageConfig) -> list[str]:
    """Those of `reporters` that transformers writes to by itself; `Events` is what writes to TensorBoard."""
    return [name for name in reporters(config) if name != "tensorboard"]


class Events(TensorBoardCallback):
    """transformers' writer of TensorBoard events, in a folder of the stage's output.

    Steps that a killed run had done, and that are done again, are not drawn twice.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.logging_dir = str(folder)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            begun = state.global_step
            self.tb_writer = self._SummaryWriter(log_dir=self.logging_dir, purge_step=begun + 1 if begun else None)
        super().on_train_begin(args, state, control, **kwargs)


def group_names(
    model: nn.Module, groups: Sequence[ParameterGroup], optimizer_groups: Sequence[Mapping[str, Any]]
) -> list[str]:
    """``lr/<pattern>`` of each group of the optimiser; the two of one pattern, with decay and without, share a rate."""
    patterns = {
        id(parameter): next((group.pattern for group in groups if re.search(group.pattern, name)), "")
        for name, parameter in model.named_parameters()
    }
    # TensorBoard takes letters, digits, dots, dashes and underscores, and would make them of everything else.
    return ["lr/" + re.sub(r"[^\w.-]+", "_", patterns[id(group["params"][0])]) for group in optimizer_groups]


class Speed:
    """Samples and tokens a second since the last line of the log, over all ranks, and memory."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._samples = 0
        self._tokens: torch.Tensor | int = 0
        self._paused = 0.0
        self._begun = time.monotonic()

    def count(self, batch: Mapping[str, Any]) -> None:
        """Add a batch; nothing is read from the device, which would make it wait."""
        if isinstance(labels := batch.get("labels"), torch.Tensor):
            self._samples += len(labels)
        if isinstance(mask := batch.get("attention_mask"), torch.Tensor):
            self._tokens = self._tokens + mask.detach().sum()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile is not training."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - begun

    def figures(self, accelerator: Any) -> dict[str, float]:
        """The figures since the last call, in 1/s; memory in 10^9 bytes: a GPU's peak, or what this process holds."""
        counted = torch.tensor([float(self._samples), float(self._tokens)], device=accelerator.device)
        samples, tokens = accelerator.reduce(counted, reduction="sum").tolist()
        seconds = max(time.monotonic() - self._begun - self._paused, 1e-9)
        self._restart()
        if accelerator.device.type == "cuda":
            memory = {"gpu_peak_gb": torch.cuda.max_memory_allocated(accelerator.device) / 1e9}
        else:
            memory = {"process_gb": psutil.Process(os.getpid()).memory_info().rss / 1e9}
        return {"samples_per_second": samples / seconds, "tokens_per_second": tokens / seconds, **memory}
