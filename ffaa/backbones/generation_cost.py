"""What answering costs in arithmetic and memory traffic, counted on the meta device: no weights, no GPU needed.

Counts are of the algorithm, not of one implementation: weights and keys and values are read once a pass, nothing is
copied. FLOPs are torch's own count (a multiply-add is two).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration


@dataclass(frozen=True)
class Cost:
    """FLOPs, and bytes that must be moved between memory and the processor."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, factor: float) -> Cost:
        return Cost(self.flops * factor, self.bytes * factor)

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The least time it takes: whichever of the two takes longer (the roofline model)."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


@dataclass(frozen=True)
class Lengths:
    """Tokens: what comes before the question (the picture's included), the question, the answer."""

    start: int
    question: int
    answer: int


class AnsweringCost:
    """Counts for a model of that configuration with weights of ``itemsize`` bytes a number."""

    def __init__(self, config: LlavaConfig, itemsize: int = 2) -> None:
        with torch.device("meta"):
            self.model = LlavaForConditionalGeneration(config).to(torch.bfloat16).eval()
        self.itemsize = itemsize
        text = config.get_text_config()
        self.text = text
        self.width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.token_bytes = 2 * text.num_hidden_layers * text.num_key_value_heads * self.width * itemsize

    def one_by_one(self, lengths: Lengths, answers: int = 3) -> list[Cost]:
        """The passes of a picture when each answer is a ``generate`` of its own (the reference implementation)."""
        passes = [self.encode(1), self.read(1, lengths.start + lengths.question, 0), *self._decode(1, lengths)]
        return passes * answers

    def together(self, lengths: Lengths, block: int, answers: int = 3) -> list[Cost]:
        """The passes of a block of pictures when all their answers are decoded together from one prefix a picture."""
        rows = answers * block
        return [
            self.encode(block),
            self.read(block, lengths.start, 0),
            self.read(rows, lengths.question, lengths.start),
            *self._decode(rows, lengths),
        ]

    def _decode(self, rows: int, lengths: Lengths) -> list[Cost]:
        before = lengths.start + lengths.question
        # The first token comes with the question; the cost of a step grows linearly with what is cached.
        return [self.read(rows, 1, before + (lengths.answer - 1) // 2)] * (lengths.answer - 1)

    @torch.inference_mode()
    def encode(self, pictures: int) -> Cost:
        """Tower and projector."""
        side = self.model.config.vision_config.image_size
        pixels = torch.empty(pictures, 3, side, side, dtype=torch.bfloat16, device="meta")
        with _counting() as counter:
            self.model.get_image_features(pixel_values=pixels)
        parts = (self.model.model.vision_tower, self.model.model.multi_modal_projector)
        return Cost(counter.get_total_flops(), sum(map(_parameters, parts)) * self.itemsize)

    @torch.inference_mode()
    def read(self, rows: int, tokens: int, cached: int) -> Cost:
        """The language model over new tokens of each row after so many cached ones, and the next token's logits."""
        cache = DynamicCache(config=self.text)
        shape = (rows, self.text.num_key_value_heads, cached, self.width)
        for layer in range(self.text.num_hidden_layers if cached else 0):
            cache.update(*(torch.empty(shape, dtype=torch.bfloat16, device="meta") for _ in range(2)), layer)
        new = torch.empty(rows, tokens, self.text.hidden_size, dtype=torch.bfloat16, device="meta")
        with _counting() as counter:
            hidden = self.model.model.language_model(inputs_embeds=new, cache=cache, use_cache=True)
            self.model.lm_head(hidden.last_hidden_state[:, -1:])
        body = _parameters(self.model.model.language_model) - self.model.get_input_embeddings().weight.numel()
        weights = body + self.model.lm_head.weight.numel()
        # The new keys and values are written, and all are read.
        moved = rows * (cached + 2 * tokens) * self.token_bytes
        return Cost(counter.get_total_flops(), weights * self.itemsize + moved)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    with FlopCounterMode(display=False) as counter:
        yield counter


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
