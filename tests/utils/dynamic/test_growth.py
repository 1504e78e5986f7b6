"""Synapses that grow or move: where, how many, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models import make_model
from models.sparse import SparseWeights
from utils.dynamic.growth import Moment, grow, growth_due, layers, move, scores, share_due
from utils.engine.dense import without_masks

GROW: dict[str, Any] = {"dynamic": "grow", "initial_density_fc": 0.1, "grow_per_task": 0.1}


def test_every_unit_gets_as_many_where_the_score_is_highest() -> None:
    mask = torch.tensor([[False, True, True, True], [True, True, True, False]])
    score = torch.tensor([[9.0, 1.0, 3.0, 2.0], [1.0, 2.0, 3.0, 9.0]])
    assert grow(mask, score, count=1, most=4) == 2
    assert mask.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert grow(mask, score, count=2, most=3) == 2  # only one each is left
    assert grow(mask, score, count=2, most=3) == 0
    assert (~mask).sum(1).tolist() == [3, 3]


def test_the_weakest_move_and_old_ones_stay() -> None:
    layer = SparseWeights(nn.Linear(4, 2), weight_sparsity=0.5)
    layer.zero_mask.copy_(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]).bool())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -2.0, 0, 0], [0, 0, 0.3, -0.2]]))
    score = torch.tensor([[0.0, 0.0, 5.0, 1.0], [2.0, 9.0, 0.0, 0.0]])
    assert move(layer, score, share=0.5) == 2
    assert layer.zero_mask.tolist() == [[True, False, False, True], [True, False, False, True]]
    layer.register_buffer("used", (~layer.zero_mask).float())
    assert move(layer, score, share=0.5) == 0


@pytest.mark.parametrize(
    ("keys", "due"),
    [
        ({"dynamic": "set"}, {100: 0.3, 200: 0.3, 300: 0.3}),
        ({"dynamic": "rigl"}, {100: 0.225, 200: 0.075}),
    ],
)
def test_when_synapses_move(
    experiment: Callable, keys: dict[str, Any], due: dict[int, float]
) -> None:
    exp = experiment(**keys)
    found = {step: share_due(exp, Moment(step, epoch=100, total=400)) for step in range(400)}
    assert {step: share for step, share in found.items() if share} == pytest.approx(due)


@pytest.mark.parametrize(
    ("every", "due"),
    [(0, {0: 7}), (100, {0: 2, 100: 3, 200: 2}), (299, {0: 4, 299: 3}), (400, {0: 7})],
)
def test_when_synapses_grow(experiment: Callable, every: int, due: dict[int, int]) -> None:
    """7 for each unit, until three quarters of 400 steps, whatever the portions round to."""
    exp = experiment(dynamic="grow", grow_per_task=0.07, grow_every=every)
    found = {n: growth_due(exp, Moment(n, epoch=100, total=400), 100) for n in range(400)}
    assert {step: count for step, count in found.items() if count} == due


@pytest.mark.parametrize("kind", ["gradient", "coactivation", "random"])
def test_scores(experiment: Callable, kind: str) -> None:
    """By formula: of a network with one layer."""
    torch.manual_seed(0)
    model = make_model(experiment(**GROW), (1, 28, 28), [10])
    x, labels = torch.rand(30, 1, 28, 28), torch.randint(10, (30,))
    [score] = scores(kind, model, without_masks(model, []), x, labels, 0, [1, 2])
    [again] = scores(kind, model, without_masks(model, []), x, labels, 0, [1, 2])
    [other] = scores(kind, model, without_masks(model, []), x, labels, 0, [1, 3])
    assert torch.equal(score, again) and not torch.equal(score, other)
    h = model.blocks[0].linear(x.flatten(1)).detach().requires_grad_()
    won = model.blocks[0].activation(h)
    if kind == "gradient":
        [back] = torch.autograd.grad(cross_entropy(model.heads[0](won), labels), h)
        expected = (back.t() @ x.flatten(1)).abs()
    elif kind == "coactivation":
        expected = (won != 0).float().t() @ x.flatten(1)
    else:
        return
    torch.testing.assert_close(score, expected / expected.max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize(
    "keys",
    [
        GROW,
        {**GROW, "grow_by": "coactivation", "grow_every": 3, "hidden_layers": 2},
        {"dynamic": "set", "train_ep": 3, "initial_density_fc": 0.1},
        {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1},
    ],
)
def test_engines_follow(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, keys: dict[str, Any]
) -> None:
    """Masked weights are zero, grown ones are trained, density is what it should be."""
    exp = experiment(**keys, engine=engine)
    stream = stream_of(exp, train=320)
    _, some = trained(exp, stream)
    torch.manual_seed(exp.seed)
    before = layers(make_model(exp, stream.input_shape, stream.head_sizes))
    for layer, then in zip(layers(some.model), before, strict=True):
        inputs = layer.zero_mask.shape[1]
        has = (~layer.zero_mask).sum(1)
        assert (layer.weight[layer.zero_mask] == 0).all()
        new = ~layer.zero_mask & then.zero_mask
        assert new.any() and (layer.weight[new] != 0).float().mean() > 0.2
        if exp.dynamic == "grow":
            assert (has == has[0]).all() and has[0] == pytest.approx(0.3 * inputs, abs=6)
        else:
            assert has.sum() == (~then.zero_mask).sum()


def test_what_is_recorded(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    exp = experiment(**GROW, old_synapse_lr=0.0, old_synapse_rule="used", weight_decay=0.0)
    record, engine = trained(exp, stream_of(exp, train=640))
    stats = record.stats()
    assert stats["synapses"].tolist() == [[64 * 156, 640], [64 * 234, 640]]
    used = engine.model.hidden[0].linear.used
    assert stats["synapses_by_birth"][:, 0].tolist() == [
        [64 * 78, 64 * 78, 0],
        [64 * 78, 64 * 78, 64 * 78],
    ]
    assert stats["frozen_synapses"][0].tolist() == [0, 0]
    assert stats["frozen_synapses"][1, 0] == pytest.approx(float(used.sum()) / (64 * 234))
    assert (used[engine.model.hidden[0].linear.zero_mask] == 0).all()


def test_a_network_of_all_mechanisms(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """Contexts that share units, whose old synapses are frozen, and whose new ones grow."""
    exp = experiment(
        **GROW,
        context="prototype",
        context_units=16,
        context_overlap=0.5,
        old_synapse_lr=0.0,
        weight_decay=0.0,
        boost_strength=0.0,
    )
    record, engine = trained(exp, stream_of(exp, train=640, test=200))
    has = (~engine.model.hidden[0].linear.zero_mask).sum(1)
    assert sorted(has.unique().tolist()) == [78, 156, 234]  # in none, one, two contexts
    assert record.accs[1, 1] > 0.3
