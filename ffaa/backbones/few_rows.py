"""Linear layers on a few rows at once, in float32 on a CPU: what decoding the answers to one picture consists of.

``x Wᵀ`` of two to eight rows takes MKL as long as dozens of rows do; the same product as ``(W xᵀ)ᵀ`` takes a third of
that at three rows, since its weight is then read as one row's is (``scripts/bench/few_rows.py``). The sum of a row's
products is taken in another order, so that results differ by rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_ROWS = 8
"""Beyond it the usual order is as fast."""


class FewRowsLinear(nn.Linear):
    """``nn.Linear`` with another order of multiplication for 2 to ``MOST_ROWS`` rows."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        rows = input.numel() // max(1, self.in_features)
        if not 1 < rows <= MOST_ROWS or torch.is_autocast_enabled(input.device.type):
            return F.linear(input, self.weight, self.bias)
        out = torch.mm(self.weight, input.reshape(rows, self.in_features).T).T.contiguous()
        out = out if self.bias is None else out + self.bias
        return out.view(*input.shape[:-1], self.out_features)


def prefer_few_rows(model: nn.Module) -> None:
    """Let the plain linear layers of a float32 model on a CPU compute so; weights stay what and where they are."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype is torch.float32 and module.weight.device.type == "cpu":
            module.__class__ = FewRowsLinear
