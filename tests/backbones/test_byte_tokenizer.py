from hypothesis import given
from hypothesis import strategies as st

from ffaa.backbones.byte_tokenizer import BYTE_VOCABULARY_SIZE, SPECIAL_TOKENS, byte_tokenizer

TOKENIZER = byte_tokenizer()


@given(st.text(max_size=60))
def test_any_text_survives(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text


@given(st.text(max_size=60).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS)))
def test_one_id_a_byte_inside_the_vocabulary(text: str) -> None:
    ids = TOKENIZER(text).input_ids
    assert len(ids) == len(text.encode("utf-8"))
    assert all(len(SPECIAL_TOKENS) <= index < BYTE_VOCABULARY_SIZE for index in ids)


def test_special_tokens_are_one_id_each() -> None:
    assert len(TOKENIZER) == BYTE_VOCABULARY_SIZE == 262
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4, 5]
    ids = TOKENIZER("<|im_start|>user\n<image>\nhi<|im_end|>").input_ids
    assert (ids.count(3), ids.count(4), ids.count(5), len(ids)) == (1, 1, 1, 11)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "user\n\nhi"
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)
