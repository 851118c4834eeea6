from pathlib import Path

import pytest
import torch

from ffaa.backbones.vision import load_vision_tower
from ffaa.types import InputError

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 48,
    "patch_size": 16,
}


def test_a_mapping_gives_the_same_random_tower_each_time_and_spares_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (load_vision_tower(TINY, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("image_size", [32, 64])
def test_the_stored_position_table_equals_interpolation_on_the_fly(image_size: int) -> None:
    plain, resized = load_vision_tower(TINY), load_vision_tower(TINY, image_size)
    pixels = torch.randn(1, 3, image_size, image_size)
    with torch.no_grad():
        expected = plain(pixels, interpolate_pos_encoding=True).last_hidden_state
        found = resized(pixels).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert resized.config.image_size == image_size
    weights = plain.embeddings.position_embedding.weight, resized.embeddings.position_embedding.weight
    assert torch.equal(weights[0][0], weights[1][0])


def test_a_resized_tower_is_a_plain_one_to_save_and_load(tmp_path: Path) -> None:
    tower = load_vision_tower(TINY, 64)
    tower.save_pretrained(tmp_path)
    again = load_vision_tower(str(tmp_path))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(pixels).last_hidden_state, tower(pixels).last_hidden_state)
    assert not again.training


@pytest.mark.parametrize("image_size", [0, -16, 40])
def test_sizes_that_hold_no_whole_number_of_patches_are_refused(image_size: int) -> None:
    with pytest.raises(InputError, match="patch size 16"):
        load_vision_tower(TINY, image_size)


def test_folders_without_a_whole_tower_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CLIP vision tower"):
        load_vision_tower(str(tmp_path))
    tower = load_vision_tower(TINY)
    state = tower.state_dict()
    del state["encoder.layers.1.mlp.fc1.weight"]
    tower.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"lacks .*layers\.1\.mlp\.fc1\.weight"):
        load_vision_tower(str(tmp_path))
