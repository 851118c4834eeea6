"""The attention blocks of MIDS (arXiv 2408.10072): what reads what, without residual or feed-forward parts."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose keys and values are given projected, so one picture's serve all its answers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Split tensors (B, heads, N, D / heads) -> (B, Nq, D); ``mask`` (B, Nk), True where a key may be seen."""
        visible = None if mask is None else mask[:, None, None, :]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return cast(Tensor, self.out(mixed.transpose(1, 2).flatten(2)))

    def forward(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, Nq, D), (B, Nk, D) -> (B, Nq, D)."""
        split = self.split
        return self.attend(split(self.query(query)), split(self.key(context)), split(self.value(context)), mask)

    def attend_once(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """One query (1, D) for all of (B, N, D) -> (B, 1, D); as ``forward``, multiplied in another order.

        q (W x + b) = (q W) x + q b, and the values of a weighted mean are the weighted mean's: with one query the
        projections of keys and values are of ``heads`` vectors a row instead of N.
        """
        size = context.shape[-1] // self.heads
        split_query = self.query(query).view(self.heads, 1, size) / math.sqrt(size)
        reading = (split_query @ self.key.weight.view(self.heads, size, -1)).squeeze(1)
        # The same for all positions, so that softmax drops it: kept for a gradient (zero) as every parameter has one.
        bias = (split_query.squeeze(1) * self.key.bias.view(self.heads, size)).sum(-1)
        scores = context @ reading.to(context.dtype).transpose(0, 1) + bias
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], -math.inf)
        shares = scores.float().softmax(dim=1).to(context.dtype)
        means = (shares.transpose(1, 2) @ context).transpose(0, 1)
        values = (means @ self.value.weight.view(self.heads, size, -1).transpose(1, 2)).transpose(0, 1)
        return cast(Tensor, self.out((values + self.value.bias.view(self.heads, size)).flatten(1)[:, None]))


class CrossBlock(nn.Module):
    """LayerNorm(attention(query, context)): no residual, no feed-forward, as published."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, Nq, D), (B, Nk, D), (B, Nk) -> (B, Nq, D)."""
        return cast(Tensor, self.norm(self.attention(query, context, mask)))

    def read_repeated(self, query: Tensor, context: Tensor, mask: Tensor | None, repeats: int) -> Tensor:
        """As ``forward`` with every query (B, Nq, D) asked of ``repeats`` contexts (B * repeats, Nk, D).

        The queries are projected once and repeated afterwards.
        """
        attention = self.attention
        projected = attention.split(attention.query(query)).repeat_interleave(repeats, dim=0)
        keys, values = attention.split(attention.key(context)), attention.split(attention.value(context))
        return cast(Tensor, self.norm(attention.attend(projected, keys, values, mask)))

    def pool(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """As ``forward`` with one query (1, D) for all rows of (B, N, D) -> (B, 1, D)."""
        return cast(Tensor, self.norm(self.attention.attend_once(query, context, mask)))


class SelfBlock(nn.Module):
    """LayerNorm(x + attention(x, x)): no feed-forward, as published."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return cast(Tensor, self.norm(states + self.attention(states, states)))


class InstanceNorm(nn.Module):
    """Each channel less its mean, over its deviation, across the patches of the picture (Ulyanov et al. 2016).

    What is alike all over a picture tells of its camera, era and tone; what stands out from its surroundings tells of
    editing. The class token, first, is measured by the same mean and deviation.
    """

    def forward(self, states: Tensor) -> Tensor:
        """(B, 1 + patches, D) -> (B, 1 + patches, D)."""
        patches = states[:, 1:].float()
        mean, deviation = patches.mean(1, keepdim=True), patches.std(1, keepdim=True)
        return ((states.float() - mean) / (deviation + 1e-3)).to(states.dtype)


class VisionStream(nn.Module):
    """One layer of the vision tower read against the answers: class token, text-reads-image, image-reads-text."""

    def __init__(self, vision_width: int, width: int, heads: int, normalize: bool, instance_norm: bool = False) -> None:
        super().__init__()
        self.instance_norm: nn.Module = InstanceNorm() if instance_norm else nn.Identity()
        self.norm: nn.Module = nn.LayerNorm(vision_width) if normalize else nn.Identity()
        self.projector = nn.Linear(vision_width, width)
        self.class_projector = nn.Linear(width, width)
        self.text_reads_image = CrossBlock(width, heads)
        self.image_reads_text = CrossBlock(width, heads)
        self.text_query = nn.Parameter(torch.empty(1, width))
        self.text_pool = CrossBlock(width, heads)
        self.image_query = nn.Parameter(torch.empty(1, width))
        self.image_pool = CrossBlock(width, heads)

    def forward(self, vision: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """(B, 1 + patches, vision width), (B * A, L, D), (B * A, L) -> (B * A, 3, D)."""
        batch = vision.shape[0]
        answers = text.shape[0] // batch
        image = self.projector(self.norm(self.instance_norm(vision)))
        class_token = self.class_projector(image[:, 0]).repeat_interleave(answers, dim=0)
        # All answers of a picture are one long query: its keys and values are projected once and never copied.
        queries = text.reshape(batch, answers * text.shape[1], -1)
        text_states = self.text_reads_image(queries, image).reshape(text.shape)
        image_states = self.image_reads_text.read_repeated(image, text, mask, answers)
        text_vector = self.text_pool.pool(self.text_query, text_states, mask)
        image_vector = self.image_pool.pool(self.image_query, image_states)
        return torch.cat([class_token[:, None], text_vector, image_vector], dim=1)
