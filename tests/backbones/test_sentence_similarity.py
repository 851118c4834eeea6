from __future__ import annotations

import pytest
import torch

from ffaa.backbones.sentence_similarity import SentenceSimilarity

TINY = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 64,
}  # fmt: skip


def test_the_same_text_is_alike_and_batches_change_nothing() -> None:
    alike = SentenceSimilarity(TINY)
    texts = ["a seam below the brows", "soft light", "x" * 500, ""]
    assert alike(texts, [[text] for text in texts]) == pytest.approx(1.0, abs=1e-5)
    together, alone = alike.states(texts), [alike.states([text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5) and float(one.norm()) == pytest.approx(1.0, abs=1e-5)


def test_the_nearest_reference_counts() -> None:
    alike = SentenceSimilarity(TINY)
    far, near = alike(["soft light"], [["nothing of it"]]), alike(["soft light"], [["nothing of it", "soft light"]])
    assert far is not None and near == pytest.approx(1.0, abs=1e-5) and far < near
    assert alike([], []) is None
