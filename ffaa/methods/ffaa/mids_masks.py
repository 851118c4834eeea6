"""Where a picture was edited, taught to MIDS while it learns to judge answers: linear heads that are thrown away after.

The published loss asks only whether an answer fits, which a network may answer from anywhere in a picture. Built sets
know each edit's mask; a logit a patch on each stream's projected states, the states that heat maps are drawn on, makes
the traces of an edit readable where the edit is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffaa.backbones.feature_cache import Lookup
from ffaa.methods.ffaa.mids import Mids, MidsOutput
from ffaa.methods.ffaa.mids_blocks import VisionStream

UNKNOWN = -1.0
"""Edited share of every patch of a forged picture without a mask; the loss leaves it out."""


class MaskTaughtMids(nn.Module):
    """MIDS whose loss grows by ``weight`` times the binary cross-entropy of its mask heads, averaged over streams."""

    def __init__(self, mids: Mids, weight: float, seed: int) -> None:
        super().__init__()
        self.mids = mids
        self.weight = weight
        self._projected: dict[int, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mask_heads = nn.ModuleList(nn.Linear(mids.settings.hidden_dim, 1) for _ in mids.streams)
        for index, stream in enumerate(cast("list[VisionStream]", list(mids.streams))):
            stream.projector.register_forward_hook(self._keep(index))

    def _keep(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._projected[index] = output

        return hook

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        masks: Tensor,
        pictures: Lookup | None = None,
        texts: Lookup | None = None,
    ) -> MidsOutput:
        """As ``Mids.forward``; ``masks`` (B, patches) hold the edited share of each patch, or ``UNKNOWN``.

        ``pictures`` and ``texts`` are what ``MidsCache`` completes before ``Mids.forward``.
        """
        # No `**keywords` here: a Trainer takes them for a loss that averages over accumulated batches itself.
        known_parts = {name: one for name, one in (("pictures", pictures), ("texts", texts)) if one is not None}
        output: MidsOutput = self.mids(
            pixel_values=pixel_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            **known_parts,
        )
        known = masks[:, 0] != UNKNOWN
        if bool(known.any()):
            logits = [head(self._projected[i][known, 1:]).squeeze(-1) for i, head in enumerate(self.mask_heads)]
            losses = [F.binary_cross_entropy_with_logits(one.float(), masks[known]) for one in logits]
            output.loss = cast(Tensor, output.loss) + self.weight * torch.stack(losses).mean()
        self._projected.clear()
        return output
