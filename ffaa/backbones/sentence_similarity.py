"""How alike two texts mean, by a small sentence encoder (MiniLM, arXiv 2002.10957): the cosine of mean token states."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ffaa.backbones.text import load_text_encoder, max_positions
from ffaa.backbones.vision import Source

_BATCH = 64


class SentenceSimilarity:
    """A sentence encoder; texts are cut at its longest input.

    Raises:
        InputError: the weights cannot be found.
    """

    def __init__(self, source: Source = "minilm_l6") -> None:
        self.encoder, self.tokenizer = load_text_encoder(source)
        self.longest = max_positions(self.encoder) or 512

    def __call__(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float | None:
        """Mean cosine with the nearest reference, -1 to 1; None for no texts."""
        if not candidates:
            return None
        flat = [text for of in references for text in of]
        found = iter(self.states(flat))
        own = self.states(candidates)
        best = [max(float(state @ next(found)) for _ in of) for state, of in zip(own, references, strict=True)]
        return sum(best) / len(best)

    @torch.inference_mode()
    def states(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """(width,) a text, of length 1: the mean of its token states without padding. Each different text once."""
        known: dict[str, torch.Tensor] = {}
        different = list(dict.fromkeys(texts))
        for start in range(0, len(different), _BATCH):
            block = different[start : start + _BATCH]
            ids = self.tokenizer(block, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
            states = self.encoder(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state
            mask = ids["attention_mask"][..., None]
            means = torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)
            known.update(zip(block, means, strict=True))
        return [known[text] for text in texts]
