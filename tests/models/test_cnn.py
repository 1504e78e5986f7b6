"""The CNN as an experiment asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from exps.config import Experiment
from models import make_model
from models.dropout import Dropout
from models.feedforward import Feedforward
from sparse_syn import KWinners, KWinners2d, SparseWeights, SparseWeights2d

Make = Callable[..., Experiment]


def kinds(module: nn.Module) -> list[type]:
    """The innermost parts in their order, with a masked layer counted as one."""
    if isinstance(module, (SparseWeights, SparseWeights2d)) or not list(module.children()):
        return [type(module)]
    return [kind for child in module.children() for kind in kinds(child)]


@pytest.mark.parametrize(
    ("shape", "flat"), [((1, 28, 28), 128 * 20 * 20), ((3, 32, 32), 128 * 24 * 24)]
)
@pytest.mark.parametrize("sparsify", [True, False])
def test_shapes(experiment: Make, shape: tuple[int, int, int], flat: int, sparsify: bool) -> None:
    exp = experiment(cnn=True, hidden_units=10, percent_on_fc=0.2, sparsify=sparsify)
    model = make_model(exp, shape, [10, 4])
    assert isinstance(model, Feedforward) and not model.plain
    assert model.hidden[0].linear.weight.shape == (10, flat)
    assert model.features(torch.rand(2, *shape)).shape == (2, 10)
    assert model(torch.rand(2, *shape), head=1).shape == (2, 4)


def test_dense_parts(experiment: Make) -> None:
    exp = experiment(cnn=True, hidden_units=10, sparsify=False, weight_sparsity_conv=0.5)
    model = make_model(exp, (1, 28, 28), [10])
    assert kinds(model.convolutions) == 2 * [nn.Conv2d, nn.ReLU, Dropout]
    assert kinds(model.hidden) == [nn.Linear, nn.ReLU, Dropout]
    assert [block.linear.out_channels for block in model.convolutions] == [64, 128]
    assert [block.linear.kernel_size for block in model.convolutions] == [(5, 5), (5, 5)]


def test_sparse_parts(experiment: Make) -> None:
    exp = experiment(
        cnn=True, hidden_units=10, weight_sparsity_fc=0.1, weight_sparsity_conv=0.4, dropout=0.25
    )
    model = make_model(exp, (1, 28, 28), [10])
    assert kinds(model.convolutions) == 2 * [SparseWeights2d, nn.ReLU, KWinners2d, Dropout]
    assert kinds(model.hidden) == [SparseWeights, nn.ReLU, KWinners, Dropout]
    assert kinds(model.heads) == [nn.Linear]
    first, second = (block.linear for block in model.convolutions)
    assert (first.weight != 0).flatten(1).sum(1).eq(10).all()
    assert (second.weight != 0).flatten(1).sum(1).eq(640).all()
    assert (model.hidden[0].linear.weight != 0).sum(1).eq(5120).all()
    local = [m for m in model.modules() if isinstance(m, KWinners2d)]
    assert [(m.local, m.k) for m in local] == [(True, 3), (True, 6)]


def test_a_density_of_one_has_no_mask(experiment: Make) -> None:
    model = make_model(experiment(cnn=True, hidden_units=10), (1, 28, 28), [10])
    assert not any(isinstance(m, (SparseWeights, SparseWeights2d)) for m in model.modules())


def test_k_channels_are_active_at_each_position(experiment: Make) -> None:
    model = make_model(experiment(cnn=True, hidden_units=10), (1, 28, 28), [10]).eval()
    maps = model.convolutions[0](torch.rand(2, 1, 28, 28))
    assert maps.shape == (2, 64, 24, 24)
    assert (maps.count_nonzero(1) <= 3).all()
    assert (maps.count_nonzero(1) == 3).float().mean() > 0.9
