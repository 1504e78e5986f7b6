"""Dropout: nn.Dropout's rule, from cheaper random numbers."""

from __future__ import annotations

import pytest
import torch

from models.dropout import Dropout, dropout_factors


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_the_share_of_what_is_kept_and_its_factor(p: float) -> None:
    torch.manual_seed(0)
    factors = dropout_factors(torch.Size((1000, 1001)), p)
    assert factors.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)] if p else [1.0], rel=1e-4)
    kept = (factors > 0).double()
    deviation = (p * (1 - p) / 1000) ** 0.5  # of the mean of a row or column
    assert kept.mean().item() == pytest.approx(1 - p, abs=6 * deviation / 31)
    assert (kept.mean(0) - (1 - p)).abs().max() <= 6 * deviation
    assert (kept.mean(1) - (1 - p)).abs().max() <= 6 * deviation


def test_what_is_nearly_always_dropped() -> None:
    factors = dropout_factors(torch.Size((2**20,)), 0.999999)
    assert factors.isfinite().all()
    assert (factors > 0).sum() < 100


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = (dropout_factors(torch.Size((400_000,)), 0.5) > 0).double() - 0.5
    for distance in range(1, 9):
        correlation = 4 * (kept[:-distance] * kept[distance:]).mean().item()
        assert abs(correlation) < 6 / 400_000**0.5


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(8, 33))

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_gradient_and_evaluation() -> None:
    layer = Dropout(0.25)
    x = torch.randn(16, 5, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.allclose(y, x * x.grad)
    assert torch.equal(layer.eval()(x), x)
    assert layer.train()(x.bfloat16()).dtype == torch.bfloat16
