"""Fully connected layers without a bias: mechanisms do with their weights what they do with all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from models import blocks
from utils.engines.choose import EngineError
from utils.methods.old_synapses import factors

FROZEN: dict[str, Any] = {"old_synapse_lr": 0.0, "weight_decay": 0.0}
CONTEXT: dict[str, Any] = {"context": "prototype", "context_units": 16}
GROW: dict[str, Any] = {"dynamic": "grow", "initial_density_fc": 0.1, "grow_per_task": 0.1}
ENGINES = ("reference", "dense")


@pytest.fixture(autouse=True)
def no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully connected layers as somebody who needs no bias would build them."""

    class Unbiased(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs, bias=False)

    class Layers:
        Linear, Conv2d, Module = Unbiased, nn.Conv2d, nn.Module

    monkeypatch.setattr(blocks, "nn", Layers)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", ["used", "usage", "importance"])
@pytest.mark.parametrize("keys", [{}, {"cnn": True, "percent_on_conv": 0.1}], ids=["mlp", "cnn"])
def test_frozen_synapses_stay_to_the_bit(
    experiment: Callable,
    stream_of: Callable,
    staged: Callable,
    engine: str,
    rule: str,
    keys: dict[str, Any],
) -> None:
    exp = experiment(**FROZEN, **keys, engine=engine, old_synapse_rule=rule)
    some = staged(exp, stream_of(exp, train=64 if keys else 320))
    some.train(0, 32)
    model = some.engine.model
    assert model.hidden[0].linear.bias is None
    before = {p: p.detach().clone() for p in model.parameters()}
    slow = factors(model, 0.0)
    assert set(slow) == set(before)
    some.train(1, 32)
    for p, then in before.items():
        still = slow[p] == 0
        assert still.any()
        assert torch.equal(p[still], then[still])
    weight = model.hidden[0].linear.weight
    assert not torch.equal(weight, before[weight])


@pytest.mark.parametrize("engine", ENGINES)
def test_what_other_contexts_learnt_stays_to_the_bit(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    exp = experiment(**CONTEXT, engine=engine, hidden_layers=2)
    some = staged(exp, stream_of(exp, train=320))
    some.train(0, 32)
    first = some.engine.units_of(0)[0]
    learnt = some.engine.model.hidden[0].linear.weight.detach().clone()
    some.train(1, 32)
    second = some.engine.units_of(1)[0]
    now = some.engine.model.hidden[0].linear.weight
    assert torch.equal(now[first], learnt[first])
    assert not torch.equal(now[second], learnt[second])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "keys",
    [
        {"dynamic": "set", "train_ep": 2, "initial_density_fc": 0.1},
        {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1},
        GROW,
        {**GROW, **FROZEN},
        {**GROW, **FROZEN, **CONTEXT, "context_overlap": 0.5},
        {**GROW, "grow_units": "fresh", "max_density_fc": 0.3},
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
def test_synapses_change_and_are_counted(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, keys: dict[str, Any]
) -> None:
    exp = experiment(**keys, engine=engine)
    record, some = trained(exp, stream_of(exp, train=320, test=20))
    layer = some.model.hidden[0].linear
    assert layer.bias is None
    assert (layer.weight[layer.zero_mask] == 0).all()
    stats = record.stats()
    births = stats["synapses_by_birth"][:, 0]
    assert births[1, 1:].sum() > 0  # new ones came
    assert stats["weights"].tolist() == [64 * 784, 640]
    if exp.dynamic == "grow" and exp.context == "none":
        assert births.sum(1).tolist() == [int(births[0].sum()), int((~layer.zero_mask).sum())]
        assert births[1].sum() > births[0].sum()
    elif exp.context == "none":
        assert births[0].sum() == births[1].sum() == (~layer.zero_mask).sum()


def test_the_sparse_engine_says_that_it_wants_one(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    few = {"hidden_units": 256, "percent_on_fc": 1 / 64}
    exp = experiment(**few, engine="sparse")
    with pytest.raises(EngineError, match="it is for layers with a bias"):
        built(exp, stream_of(exp))
    engine, *_ = built(experiment(**few), stream_of(exp))
    assert engine.name == "dense"
    assert "layers with a bias" in engine.why_not_faster
