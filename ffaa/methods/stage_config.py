"""What a stage of training is told, by ``configs/<method>/<model>/<stage>.yaml`` and by flags; free of torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.types import InputError


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters whose name a pattern finds (``re.search``; the first such group takes one) and how they learn."""

    pattern: str
    lr: float
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay; never applied to biases, norms and one-dimensional parameters."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InputError(f"the pattern {self.pattern!r} of a group is no regular expression: {error}") from error
        if not (0 <= self.lr < math.inf and 0 <= self.weight_decay < math.inf):
            raise InputError(f"group {self.pattern!r}: lr and weight_decay must be numbers from 0 up")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: ``configs/<method>/<model>/<stage>.yaml``, every key also a flag."""

    method: str = "ffaa"
    """Method to train."""
    model: str = "mini"
    """Folder configs/<method>/<model>/ that says what the model is made of."""
    stage: str = ""
    """Stage of the method."""
    data: Path = Path("data")
    """Folder or file that the stage trains on."""
    validation: Path | None = None
    """The same for validation; none is done without it."""
    init: Path | None = None
    """Output of the stage before, to start from."""
    output: Path = Path("runs/stage")
    """Folder for checkpoints, logs and the stage's result."""
    groups: list[ParameterGroup] = field(default_factory=list)
    """What is trained, of what the stage lets learn; every other parameter stays as it is."""
    epochs: float = 1.0
    """Passes over the data."""
    max_steps: int = -1
    """Stop after so many optimiser steps; -1: by epochs."""
    batch_size: int = 8
    """Samples per process and step."""
    accumulation: int = 1
    """Steps whose gradients are summed before the optimiser moves."""
    warmup_share: float = 0.03
    """Share of steps over which the learning rate rises; it falls by a cosine after."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    dtype: str = "bfloat16"
    """Precision of frozen weights and autocast: bfloat16, float16 or float32. Trained weights are float32."""
    workers: int = 0
    """Processes that load data."""
    save_steps: int = 200
    """Steps between resumable checkpoints."""
    log_steps: int = 10
    """Steps between lines of the log."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""
    device: str = "auto"
    """auto, cpu or cuda."""
    deepspeed: Path | None = None
    """DeepSpeed configuration, a JSON file."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of this stage alone; the stage names those it knows."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "save_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_steps != -1 and self.max_steps < 1:
            raise InputError(
                f"max_steps must be at least 1, or -1 for as many as the epochs give, got {self.max_steps}"
            )
        if not 0 < self.epochs < math.inf:
            raise InputError(f"epochs must be more than 0, got {self.epochs}")
        if not 0 <= self.warmup_share < 1:
            raise InputError(f"warmup_share must be from 0 to below 1, got {self.warmup_share}")
        if not 0 < self.max_grad_norm:
            raise InputError(f"max_grad_norm must be more than 0, got {self.max_grad_norm}")
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, got {self.workers}")
        if self.dtype not in ("bfloat16", "float16", "float32"):
            raise InputError(f"dtype must be bfloat16, float16 or float32, got {self.dtype!r}")

    def check_options(self, *known: str) -> None:
        """Raises InputError naming options that are not among ``known``, the stage's own."""
        if unknown := sorted(set(self.options) - set(known)):
            raise InputError(
                f"stage {self.stage} has no options {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
            )

    def share_option(self, name: str) -> float:
        """An option that is a share, 0 where it is not given. Raises InputError when it is no number from 0 to 1."""
        value = self.options.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"option {name} of stage {self.stage} is a share from 0 to 1, not {value!r}")
        return float(value)
