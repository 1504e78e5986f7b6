"""The MLP as an experiment asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from exps.config import Experiment
from models import make_model
from models.dropout import Dropout
from models.feedforward import Feedforward
from sparse_syn import KWinners, SparseWeights

Make = Callable[..., Experiment]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("layers", [1, 2])
def test_shapes(experiment: Make, shape: tuple[int, int, int], layers: int) -> None:
    model = make_model(experiment(hidden_layers=layers), shape, [2, 3])
    assert model.plain and isinstance(model, Feedforward)
    assert (len(model.hidden), model.units) == (layers, 60)
    x = torch.rand(5, *shape)
    assert model.features(x).shape == (5, 60)
    assert model(x).shape == (5, 2)
    assert model(x, head=1).shape == (5, 3)


def test_dense_is_linear_relu_dropout(experiment: Make) -> None:
    dense = experiment(sparsify=False, weight_sparsity_fc=0.5, dropout=0.2)
    block = make_model(dense, (1, 28, 28), [10]).hidden[0]
    kinds = [type(part) for part in block.children()]
    assert kinds == [nn.Linear, nn.ReLU, Dropout]
    assert block.dropout.p == 0.2


def test_sparse_is_sparse_weights_k_winners_dropout(experiment: Make) -> None:
    model = make_model(experiment(weight_sparsity_fc=0.5, hidden_layers=2), (1, 28, 28), [10])
    for block in model.hidden:
        kinds = [type(part) for part in block.children()]
        assert kinds == [SparseWeights, KWinners, Dropout]
    assert (model.hidden[0].linear.weight != 0).sum(1).eq(392).all()
    assert type(model.heads[0]) is nn.Linear


def test_a_density_of_one_has_no_mask(experiment: Make) -> None:
    model = make_model(experiment(weight_sparsity_fc=1.0), (1, 28, 28), [10])
    assert type(model.hidden[0].linear) is nn.Linear


def test_k_winners_get_the_values_of_the_experiment(experiment: Make) -> None:
    exp = experiment(
        percent_on_fc=0.2,
        k_inference_factor=1.25,
        boost_strength=0.7,
        boost_strength_factor=0.5,
        duty_cycle_period=77,
    )
    winners = make_model(exp, (1, 28, 28), [10]).hidden[0].activation
    assert (winners.k, winners.k_inference, winners.duty_cycle_period) == (12, 15, 77)
    assert (winners.boost_strength.item(), winners.boost_strength_factor) == (
        pytest.approx(0.7),
        0.5,
    )


def test_k_units_are_active(experiment: Make) -> None:
    model = make_model(experiment(), (1, 28, 28), [10]).eval()
    assert model.features(torch.rand(7, 1, 28, 28)).count_nonzero(1).eq(6).all()


def test_the_seed_decides_weights_and_masks(experiment: Make) -> None:
    def built(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return make_model(experiment(weight_sparsity_fc=0.3), (1, 28, 28), [10]).state_dict()

    first, same, other = built(3), built(3), built(4)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["hidden.0.linear.zero_mask"], other["hidden.0.linear.zero_mask"])


def test_the_size_of_the_default_network(experiment: Make) -> None:
    model = make_model(experiment(hidden_units=4000), (1, 28, 28), [10])
    assert sum(p.numel() for p in model.parameters()) == 784 * 4000 + 4000 + 4000 * 10 + 10
