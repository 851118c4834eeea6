"""What a stage of training is told, by ``configs/<method>/<model>/<stage>.yaml`` and by flags; free of torch."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.config import Switch
from ffaa.runtime import closest
from ffaa.types import InputError

REPORTERS = ("tensorboard", "wandb")


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
class Assumed:
    """What ``--dry_run`` takes for what it cannot read."""

    ranks: int = 1
    """Processes, one a GPU; where a launcher set WORLD_SIZE, that."""
    samples: int | None = None
    """Training samples, where ``data`` is not there."""
    mean_text: int = 400
    """Tokens of a text on average (question and answer; a picture's are not counted), where they cannot be counted."""
    longest_text: int = 600
    """Tokens of the longest text."""
    loss_tokens: int = 520
    """Of the longest text, the answer's."""

    def __post_init__(self) -> None:
        for name in ("ranks", "samples", "mean_text", "longest_text", "loss_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"assume.{name} must be at least 1, got {value}")
        if not max(self.mean_text, self.loss_tokens) <= self.longest_text:
            raise InputError("assume.longest_text is less than assume.mean_text or assume.loss_tokens")


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
    """What the stage trains on: a folder or a file of records, or a JSON file of the published form."""
    validation: Path | None = None
    """The same for validation; none is done without it."""
    init: Path | None = None
    """Output of the stage before, to start from."""
    output: Path = Path("runs/stage")
    """Folder for checkpoints, logs and the stage's result."""
    resume: Switch = True
    """Go on from the last whole state in ``output``; 0: refuse a folder that holds one."""
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
    report_to: list[str] | str | None = None
    """Where curves go: tensorboard (in <output>/tensorboard), wandb, or a list; []: nowhere; null: tensorboard, if it
    is installed."""
    sample_steps: int = 200
    """Steps between the answers to eight fixed validation pictures, in <output>/samples; 0: never."""
    validation_steps: int = 1000
    """Steps between validations of the verdicts, the last step besides; the best is in <output>/best. 0: never."""
    validation_samples: int = 64
    """Validation pictures whose verdicts are looked at; as many real as fake, where there are."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""
    device: str = "auto"
    """auto, cpu or cuda."""
    feature_cache: Path | None = None
    """Folder that keeps what frozen towers make of pictures and texts, where no augmentation forbids it; null: none."""
    feature_cache_gb: float = 32.0
    """Size that the folder may grow to, in 10^9 bytes; what does not fit is computed at every step."""
    group_by_length: Switch = False
    """Batches of samples of about the same length, as LLaVA trains, for less padding."""
    deepspeed: Path | None = None
    """DeepSpeed configuration, a JSON file."""
    gradient_checkpointing: Switch = False
    """Keep each layer's input alone and compute the rest again when gradients are: less memory, a third more work."""
    tf32: Switch = False
    """Let a GPU multiply float32 matrices in TF32 (Ampere and later); nothing on a CPU."""
    dry_run: Switch = False
    """Print what would be trained, in how many steps and in how much memory; load no weights, train nothing."""
    assume: Assumed = field(default_factory=Assumed)
    """What a dry run takes for what it cannot read."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of this stage alone; the stage names those it knows."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "save_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, least in (("sample_steps", 0), ("validation_steps", 0), ("validation_samples", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if unknown := [one for one in self.reporters or [] if one not in REPORTERS]:
            raise InputError(f"report_to knows {', '.join(REPORTERS)}, not {unknown[0]!r}")
        if self.max_steps != -1 and self.max_steps < 1:
            raise InputError(
                f"max_steps must be at least 1, or -1 for as many as the epochs give, got {self.max_steps}"
            )
        if not 0 < self.epochs < math.inf:
            raise InputError(f"epochs must be more than 0, got {self.epochs}")
        if not 0 < self.feature_cache_gb < math.inf:
            raise InputError(f"feature_cache_gb must be more than 0, got {self.feature_cache_gb}")
        if not 0 <= self.warmup_share < 1:
            raise InputError(f"warmup_share must be from 0 to below 1, got {self.warmup_share}")
        if not 0 < self.max_grad_norm:
            raise InputError(f"max_grad_norm must be more than 0, got {self.max_grad_norm}")
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, got {self.workers}")
        if self.dtype not in ("bfloat16", "float16", "float32"):
            raise InputError(f"dtype must be bfloat16, float16 or float32, got {self.dtype!r}")

    @property
    def reporters(self) -> list[str] | None:
        """``report_to`` as a list; None where nothing was asked for."""
        return [self.report_to] if isinstance(self.report_to, str) else self.report_to

    def zero_stage(self) -> int:
        """ZeRO stage of the DeepSpeed configuration; 0 without one.

        Raises:
            InputError: no such file, or it holds no JSON object with such a stage.
        """
        if self.deepspeed is None:
            return 0
        try:
            return int(json.loads(self.deepspeed.read_text(encoding="utf-8"))["zero_optimization"]["stage"])
        except OSError as error:
            raise InputError(f"{self.deepspeed}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.deepspeed} is JSON without a number at zero_optimization.stage: {error}"
            ) from error

    def check_options(self, *known: str) -> None:
        """Raises InputError naming options that are not among ``known``, the stage's own."""
        if unknown := sorted(set(self.options) - set(known)):
            meant = closest(unknown[0], known).removeprefix(", ")
            raise InputError(
                f"stage {self.stage} has no options {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
                + (f" ({meant})" if meant else "")
            )

    def share_option(self, name: str) -> float:
        """An option that is a share, 0 where it is not given. Raises InputError when it is no number from 0 to 1."""
        value = self.options.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"option {name} of stage {self.stage} is a share from 0 to 1, not {value!r}")
        return float(value)

    def mixstyle_share(self) -> float:
        """Option ``mixstyle``. Raises InputError as `share_option`, or where a batch is one picture alone."""
        share = self.share_option("mixstyle")
        if share and self.batch_size < 2:
            raise InputError("option mixstyle mixes the pictures of a batch: it needs --batch_size 2 or more, or 0")
        return share

    def switch_option(self, name: str, default: bool) -> bool:
        """An option that is on or off. Raises InputError when it is neither."""
        value = self.options.get(name, default)
        if not isinstance(value, bool):
            raise InputError(f"option {name} of stage {self.stage} is true or false, not {value!r}")
        return value

    def folder_option(self, name: str) -> Path | None:
        """An option that is a folder, None where it is not given. Raises InputError when there is no such folder."""
        value = self.options.get(name)
        if value is None:
            return None
        if not isinstance(value, str | Path) or not Path(value).is_dir():
            raise InputError(f"option {name} of stage {self.stage} is a folder, and {value!r} is none")
        return Path(value)
