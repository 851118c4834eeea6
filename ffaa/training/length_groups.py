"""Batches of samples of about the same length: less padding, and ranks that need not wait for one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from ffaa.types import InputError


class LengthGroups(Sampler[int]):
    """An order of (seed, epoch) alone, in which neighbours are of about the same length; as LLaVA's training has it.

    Unlike transformers' own sampler it draws nothing from the global generator, so that ranks agree on it and a resumed
    run goes on in it. Raises InputError when the samples do not tell their ``lengths``.
    """

    def __init__(self, samples: Dataset[Any] | None, group: int, seed: int) -> None:
        """``group``: the samples of one optimiser step over all ranks."""
        lengths = getattr(samples, "lengths", None)
        if lengths is None:
            raise InputError("group_by_length: the samples of this stage tell no lengths to group them by")
        self.lengths: list[int] = lengths
        self.group = group
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw another order from now on; called by the data loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.group, generator=generator))
