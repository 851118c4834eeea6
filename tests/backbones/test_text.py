from pathlib import Path

import pytest
import torch

from ffaa.backbones.text import load_text_encoder, max_positions, text_width
from ffaa.types import InputError

BERT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 262,
    "max_position_embeddings": 64,
}
T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 300}


@pytest.mark.parametrize(("source", "positions"), [(BERT, 64), (T5, None)])
def test_padding_does_not_change_a_texts_states(source: dict[str, object], positions: int | None) -> None:
    encoder, tokenizer = load_text_encoder(source)
    alone = tokenizer(["a face"], return_tensors="pt")
    padded = tokenizer(["a face", "a face with a longer description"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder(**{k: alone[k] for k in ("input_ids", "attention_mask")}).last_hidden_state[0]
        found = encoder(**{k: padded[k] for k in ("input_ids", "attention_mask")}).last_hidden_state[0]
    torch.testing.assert_close(found[: len(expected)], expected, atol=1e-5, rtol=1e-5)
    assert expected.shape[-1] == text_width(encoder) == 32
    assert max_positions(encoder) == positions
    assert not encoder.training


def test_texts_have_both_ends_when_empty_and_when_cut() -> None:
    _, tokenizer = load_text_encoder(BERT)
    assert tokenizer("").input_ids == [1, 2]
    cut = tokenizer("x" * 100, truncation=True, max_length=10).input_ids
    assert (len(cut), cut[0], cut[-1]) == (10, 1, 2)


def test_random_weights_repeat() -> None:
    states = [load_text_encoder(BERT)[0].state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_unusable_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocab_size >= 262"):
        load_text_encoder({**BERT, "vocab_size": 100})
    with pytest.raises(InputError, match="no text encoder"):
        load_text_encoder(str(tmp_path))


def test_a_saved_encoder_loads_and_a_part_of_one_does_not(tmp_path: Path) -> None:
    encoder, tokenizer = load_text_encoder(BERT)
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, tokenizer_again = load_text_encoder(str(tmp_path))
    assert tokenizer_again("a face").input_ids == tokenizer("a face").input_ids
    assert torch.equal(again.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight)
    state = encoder.state_dict()
    del state["encoder.layer.0.output.dense.bias"]
    encoder.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"lacks encoder\.layer\.0\.output\.dense\.bias"):
        load_text_encoder(str(tmp_path))
