"""Costs and densities, against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models import make_model
from models.costs import LayerCost, layer_costs, max_entropies, weight_density

MLP_SHAPE = (1, 2, 2)


def test_density_is_that_of_the_masks(experiment: Callable) -> None:
    model = make_model(experiment(hidden_units=8, weight_sparsity_fc=0.5), MLP_SHAPE, [3])
    layer = model.hidden[0].linear
    with torch.no_grad():
        layer.zero_mask[:, 0] = False
        layer.weight[:, 0] = 0  # has just grown
        model.heads[0].weight[0] = 0
    there = 32 - int(layer.zero_mask.sum())
    assert weight_density(model) == {"hidden.0.linear": there / 32, "heads.0": 1.0}
    assert [c.active_params for c in layer_costs(model, MLP_SHAPE)] == [there + 8, 27]
    assert [c.active_macs for c in layer_costs(model, MLP_SHAPE)] == [there, 3]


def test_masks_of_nupic_torch_do_not_count_as_they_do_not_last(experiment: Callable) -> None:
    model = make_model(experiment(hidden_units=8), MLP_SHAPE, [3])
    model.hidden[0].linear.register_buffer("zero_mask", torch.ones(8, 4).half())
    with torch.no_grad():
        model.hidden[0].linear.weight[:, 1:] = 0
    assert weight_density(model) == {"hidden.0.linear": 0.25, "heads.0": 1.0}


def test_a_dense_mlp_by_hand(experiment: Callable) -> None:
    exp = experiment(sparsify=False, hidden_units=3, hidden_layers=2)
    assert layer_costs(make_model(exp, MLP_SHAPE, [2, 5]), MLP_SHAPE) == [
        LayerCost("hidden.0.linear", "Linear", 4 * 3 + 3, 4 * 3 + 3, 12, 12),
        LayerCost("hidden.1.linear", "Linear", 3 * 3 + 3, 3 * 3 + 3, 9, 9),
        LayerCost("heads.0", "Linear", 3 * 2 + 2, 3 * 2 + 2, 6, 6),
        LayerCost("heads.1", "Linear", 3 * 5 + 5, 3 * 5 + 5, 15, 15),
    ]


def test_a_sparse_mlp_by_hand(experiment: Callable) -> None:
    exp = experiment(hidden_units=8, weight_sparsity_fc=0.5)
    assert layer_costs(make_model(exp, MLP_SHAPE, [2]), MLP_SHAPE) == [
        LayerCost("hidden.0.linear", "SparseWeights", 32 + 8, 16 + 8, 32, 16),
        LayerCost("heads.0", "Linear", 16 + 2, 16 + 2, 16, 2),  # one of 8 units wins
    ]


@pytest.mark.parametrize(
    ("shape", "first", "second"), [((1, 28, 28), 24, 20), ((3, 32, 32), 28, 24)]
)
def test_the_cnn_by_hand(
    experiment: Callable, shape: tuple[int, int, int], first: int, second: int
) -> None:
    exp = experiment(
        cnn=True,
        hidden_units=16,
        percent_on_conv=0.1,
        weight_sparsity_conv=0.4,
        weight_sparsity_fc=0.01,
    )
    found = {cost.name: cost for cost in layer_costs(make_model(exp, shape, [10]), shape)}
    inputs = 25 * shape[0]
    conv, kept = 64 * inputs, 64 * round(0.4 * inputs)
    places = first**2  # each weight is used once per position
    assert found["convolutions.0.linear"] == LayerCost(
        "convolutions.0.linear",
        "SparseWeights2d",
        conv + 64,
        kept + 64,
        conv * places,
        kept * places,
    )
    conv, kept, places = 128 * 1600, 128 * 640, second**2
    assert found["convolutions.1.linear"] == LayerCost(
        "convolutions.1.linear",
        "SparseWeights2d",
        conv + 128,
        kept + 128,
        conv * places,
        round(kept * places * 6 / 64),  # so many channels win at each position
    )
    weights, kept = 16 * 128 * second**2, 16 * round(1.28 * second**2)
    assert found["hidden.0.linear"] == LayerCost(
        "hidden.0.linear", "SparseWeights", weights + 16, kept + 16, weights, round(kept * 13 / 128)
    )
    assert found["heads.0"] == LayerCost("heads.0", "Linear", 170, 170, 160, 20)
    assert list(found) == [
        "convolutions.0.linear",
        "convolutions.1.linear",
        "hidden.0.linear",
        "heads.0",
    ]


def test_the_most_entropy_by_hand(experiment: Callable) -> None:
    model = make_model(experiment(hidden_units=8, percent_on_fc=0.125), MLP_SHAPE, [2])
    assert max_entropies(model) == pytest.approx(8 * 0.543564)
    model = make_model(experiment(hidden_units=7, percent_on_fc=0.9), MLP_SHAPE, [2])
    assert max_entropies(model) == pytest.approx(7)  # each wins half of the time
    exp = experiment(cnn=True, percent_on_conv=0.9, hidden_units=2, percent_on_fc=1.0)
    model = make_model(exp, (1, 28, 28), [2])
    model.features(torch.zeros(1, 1, 28, 28))
    assert max_entropies(model) == pytest.approx([2, 64 * 24**2, 128 * 20**2])


def test_the_parameters_add_up(experiment: Callable) -> None:
    for changes in ({}, {"cnn": True, "percent_on_conv": 0.1}, {"hidden_layers": 3}):
        model = make_model(experiment(**changes), (1, 28, 28), [10, 10])
        costs = layer_costs(model, (1, 28, 28))
        assert sum(c.params for c in costs) == sum(p.numel() for p in model.parameters())


def test_counting_leaves_the_model_as_it_was(experiment: Callable) -> None:
    model = make_model(experiment(hidden_units=8, weight_sparsity_fc=0.5), MLP_SHAPE, [2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    layer_costs(model, MLP_SHAPE)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
