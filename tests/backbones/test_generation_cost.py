from __future__ import annotations

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from ffaa.backbones.generation_cost import AnsweringCost, Cost, Lengths

TEXT = LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=100,
)  # fmt: skip
VISION = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
)
LENGTHS = Lengths(start=20, question=5, answer=11)


@pytest.fixture(scope="module")
def cost() -> AnsweringCost:
    return AnsweringCost(LlavaConfig(vision_config=VISION, text_config=TEXT, vision_feature_layer=-2))


def weights_of_a_layer() -> int:
    return 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64


@pytest.mark.parametrize(("rows", "tokens", "cached"), [(1, 1, 10), (3, 1, 40), (2, 7, 0), (3, 5, 20)])
def test_a_pass_costs_what_its_matrices_say(cost: AnsweringCost, rows: int, tokens: int, cached: int) -> None:
    found = cost.read(rows, tokens, cached)
    linear = 2 * rows * (tokens * 2 * weights_of_a_layer() + 32 * 100)
    attention = 2 * 2 * rows * 4 * 8 * tokens * (cached + tokens) * 2
    # Rotary angles are a product of their own, and small.
    assert linear + attention <= found.flops <= 1.05 * (linear + attention)
    norms = 5 * 32
    keys_and_values = 2 * 2 * 2 * 8 * 2
    assert found.bytes == 2 * (2 * weights_of_a_layer() + norms + 3200) + rows * (cached + 2 * tokens) * keys_and_values


def test_a_picture_costs_as_much_in_company(cost: AnsweringCost) -> None:
    one, many = cost.encode(1), cost.encode(5)
    assert many.flops == 5 * one.flops and many.bytes == one.bytes


def test_together_is_cheaper_and_the_more_so_the_larger_the_block(cost: AnsweringCost) -> None:
    apart = sum(cost.one_by_one(LENGTHS), Cost())
    blocks = [sum(cost.together(LENGTHS, size), Cost()) * (1 / size) for size in (1, 8, 32)]
    assert apart.flops > blocks[0].flops and apart.bytes > blocks[0].bytes > blocks[1].bytes > blocks[2].bytes
    # What is computed for a picture depends on no other.
    assert blocks[0].flops == pytest.approx(blocks[2].flops)
    assert len(cost.one_by_one(LENGTHS)) == 3 * (1 + LENGTHS.answer)


def test_the_slower_of_arithmetic_and_traffic_bounds_a_pass() -> None:
    assert Cost(100.0, 10.0).seconds(50.0, 10.0) == 2.0
    assert Cost(100.0, 10.0).seconds(1000.0, 10.0) == 1.0
