"""DeepSpeed's ZeRO (arXiv 1910.02054): what it cut is put together to be read; what is frozen is not saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn


def whole(parameters: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
    """Within it, parameters that ZeRO-3 has partitioned are whole on every rank, to be read. All ranks enter it."""
    parts = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    return _gathered(parts) if parts else nullcontext()


@contextlib.contextmanager
def _gathered(parameters: list[nn.Parameter]) -> Iterator[None]:
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters):
        yield


def leave_out_what_is_frozen(engine: Any) -> None:
    """Let a DeepSpeed engine save and load the parameters that learn alone; all others are known from their source.

    transformers asks it to for a bare peft model only; of a 7B model each state would hold 14 GB more.
    """
    save, load = engine.save_checkpoint, engine.load_checkpoint

    def save_checkpoint(folder: str, **options: Any) -> Any:
        return save(folder, **{**options, "exclude_frozen_parameters": True})

    def load_checkpoint(folder: str, **options: Any) -> Any:
        return load(folder, **{**options, "load_module_strict": False})

    engine.save_checkpoint, engine.load_checkpoint = save_checkpoint, load_checkpoint
