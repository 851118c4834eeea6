"""MixStyle moves only what is alike all over a picture, and leaves pictures it was not asked to mix."""

from __future__ import annotations

import pytest
import torch

from ffaa.backbones.mixstyle import mix_statistics


@pytest.fixture
def features() -> torch.Tensor:
    """Eight pictures whose channels differ in mean and deviation from picture to picture, (8, 25, 6)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, 25, 6, generator=generator)
    return noise * torch.linspace(1, 3, 8)[:, None, None] + torch.linspace(-5, 5, 8)[:, None, None]


def standardised(features: torch.Tensor) -> torch.Tensor:
    return (features - features.mean(1, keepdim=True)) / features.std(1, keepdim=True)


def test_what_stands_out_within_a_picture_stays(features: torch.Tensor) -> None:
    torch.manual_seed(0)
    mixed = mix_statistics(features, 1.0)
    torch.testing.assert_close(standardised(mixed), standardised(features), rtol=1e-3, atol=1e-3)
    assert (mixed - features).abs().max() > 1


def test_statistics_come_from_pictures_of_the_batch(features: torch.Tensor) -> None:
    torch.manual_seed(0)
    means = mix_statistics(features, 1.0).mean(1)
    assert (means >= features.mean(1).amin(0) - 1e-4).all() and (means <= features.mean(1).amax(0) + 1e-4).all()


def test_a_share_of_the_pictures_is_mixed(features: torch.Tensor) -> None:
    torch.manual_seed(0)
    torch.testing.assert_close(mix_statistics(features, 0.0), features, rtol=1e-4, atol=1e-4)
    many = features.repeat(50, 1, 1)
    changed = (mix_statistics(many, 0.5) - many).abs().amax((1, 2)) > 1e-3
    assert 0.3 < changed.float().mean() < 0.6


def test_precision_and_a_single_picture_are_kept() -> None:
    one = torch.randn(1, 25, 6).to(torch.bfloat16)
    mixed = mix_statistics(one, 1.0)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed, one, rtol=2e-2, atol=2e-2)
