from __future__ import annotations

import pytest
import torch
from torch import nn

from ffaa.backbones.few_rows import MOST_ROWS, FewRowsLinear, prefer_few_rows


def test_it_is_the_linear_layer_for_any_number_of_rows_and_shape() -> None:
    torch.manual_seed(0)
    for bias in (False, True):
        layer = nn.Linear(24, 40, bias=bias)
        same = nn.Sequential(layer)
        inputs = [torch.randn(*shape, 24) for shape in [(1,), (3,), (MOST_ROWS + 1,), (3, 1), (1, 3), (2, 2, 2), (0,)]]
        wanted = [layer(one) for one in inputs]
        prefer_few_rows(same)
        assert type(same[0]) is FewRowsLinear
        for one, result in zip(inputs, wanted, strict=True):
            assert same(one).shape == result.shape and same(one).is_contiguous()
            assert torch.allclose(same(one), result, atol=1e-5)


def test_two_to_eight_rows_are_multiplied_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(24, 40))
    prefer_few_rows(model)
    usual: list[int] = []

    def linear(*arguments: torch.Tensor) -> torch.Tensor:
        usual.append(len(arguments[0]))
        return torch.zeros(len(arguments[0]), 40)

    monkeypatch.setattr("ffaa.backbones.few_rows.F.linear", linear)
    for rows in range(1, MOST_ROWS + 3):
        model(torch.randn(rows, 24))
    assert usual == [1, MOST_ROWS + 1, MOST_ROWS + 2]


def test_other_precisions_and_other_layers_stay_as_they_are() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4).to(torch.bfloat16), Own(4, 4), nn.Linear(4, 4, device="meta"))
    prefer_few_rows(model)
    assert [type(layer) for layer in model] == [nn.Linear, Own, nn.Linear]
