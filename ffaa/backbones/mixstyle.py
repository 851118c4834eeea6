"""MixStyle (Zhou et al. 2021, arXiv 2104.02008): training pictures borrow one another's feature statistics.

Mean and deviation of a channel over the patches tell of a picture's camera, era and tone. Mixed between the pictures of
a batch, in training only, they stop telling real from forged, and pictures of another make are judged more alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mix_statistics(features: Tensor, share: float) -> Tensor:
    """Patch features (N, P, C) of N pictures, the statistics of a ``share`` of them mixed with another's of the batch.

    A pair's proportion is drawn evenly from 0 to 1; the paper draws it from Beta(0.1, 0.1), mostly near either end.
    Draws come from torch's global generator, whose state training checkpoints keep.
    """
    values = features.float()
    mean, deviation = values.mean(1, keepdim=True), values.std(1, keepdim=True) + 1e-4
    count = len(values)
    own = torch.rand(count, 1, 1, device=values.device)
    own = torch.where(torch.rand(count, 1, 1, device=values.device) < share, own, torch.ones_like(own))
    other = torch.randperm(count, device=values.device)
    mixed_mean = own * mean + (1 - own) * mean[other]
    mixed_deviation = own * deviation + (1 - own) * deviation[other]
    return ((values - mean) / deviation * mixed_deviation + mixed_mean).to(features.dtype)
