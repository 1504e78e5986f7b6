"""What a network has after each task: counted by hand, and laws on real runs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import make_model
from models.feedforward import Feedforward
from models.synapses import attach
from utils.methods import census, old_synapses
from utils.methods.census import Method, in_use

GROW: dict[str, Any] = {"dynamic": "grow", "initial_density_fc": 0.1, "grow_per_task": 0.1}
FROZEN: dict[str, Any] = {"old_synapse_lr": 0.0, "weight_decay": 0.0}
CONTEXT: dict[str, Any] = {"context": "prototype", "context_units": 24, "context_overlap": 0.5}

CNN: dict[str, Any] = {"cnn": True, "percent_on_conv": 0.2, "hidden_units": 16}


def tiny(experiment: Callable, **keys: Any) -> Feedforward:
    """One hidden layer of 4 units with 3 inputs, one of which each is masked at first."""
    exp = experiment(hidden_units=4, percent_on_fc=0.25, **GROW | keys)
    model = make_model(exp, (1, 1, 10), [2])
    mask = model.blocks[0].linear.zero_mask
    mask.fill_(True)
    mask[:, 1:4] = torch.tensor([False, False, True])
    return model


class Counted:
    """A census of a model, by an experiment of so many tasks, which are told what they use."""

    def __init__(self, patch: pytest.MonkeyPatch, exp: Any, model: Feedforward, tasks: int) -> None:
        self.patch = patch
        self.method = Method(exp, SimpleNamespace(training=[None] * tasks))
        self.engine = SimpleNamespace(
            model=model, device=torch.device("cpu"), units_of=lambda task: None
        )
        patch.setattr(old_synapses, "pictures", lambda *_: torch.zeros(0))
        self.method.prepare(model)

    def take(self, task: int, used: list[Tensor]) -> None:
        self.patch.setattr(census, "in_use", lambda *_: used)
        self.method.end_task(self.engine, task)

    def measured(self) -> dict[str, np.ndarray]:
        return self.method.result()


def test_synapses_by_birth(experiment: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(experiment)
    mask = model.blocks[0].linear.zero_mask
    counted = Counted(monkeypatch, experiment(**GROW), model, tasks=3)
    units = [torch.tensor([True, True, False, False])], [torch.tensor([True, False, True, False])]
    mask[:, 5] = False  # every unit gets one
    counted.take(0, units[0])
    mask[0, 5], mask[0, 1], mask[0, 7], mask[0, 8] = True, True, False, False
    for _ in range(2):  # twice is the same as once
        counted.take(1, units[1])
    found = counted.measured()
    assert found["synapses"].tolist() == [[12, 8], [12, 8]]
    assert found["weights"].tolist() == [40, 8]
    assert found["density"].tolist() == [[0.3, 1], [0.3, 1]]
    births = found["synapses_by_birth"]  # before all tasks, and in each
    assert births[:, 0].tolist() == [[8, 4, 0, 0], [7, 3, 2, 0]]
    assert births[:, 1].tolist() == [[8, 0, 0, 0], [8, 0, 0, 0]]
    assert found["fresh_units"].tolist() == [[2], [1]]
    assert (found["frozen_synapses"] == 0).all() and (found["learning_rate_factor"] == 1).all()
    assert "synapses_by_age" not in found
    mask[0, 7], mask[0, 5] = True, False  # what comes back is born again
    counted.take(2, units[0])
    assert counted.measured()["synapses_by_birth"][2, 0].tolist() == [7, 3, 1, 1]


def test_ages_and_rates(experiment: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(experiment, old_synapse_lr=0.2)
    attach(model, "used")
    used = old_synapses.ages(model)[model.blocks[0].linear.weight]
    used[:, 1] = torch.tensor([0.0, 0.25, 0.6, 1.0])
    counted = Counted(monkeypatch, experiment(old_synapse_lr=0.2), model, tasks=1)
    everywhere = [torch.ones(4, dtype=torch.bool)]
    counted.take(0, everywhere)
    found = counted.measured()
    assert found["synapses_by_age"][0, 0].tolist() == [5, 1, 0, 1, 0, 1]
    assert found["learning_rate_factor"][0, 0] == pytest.approx(1 - 0.8 * 1.85 / 8)
    assert found["frozen_synapses"][0, 0] == 0
    frozen = Counted(monkeypatch, experiment(old_synapse_lr=0.0), model, tasks=1)
    frozen.take(0, everywhere)
    assert frozen.measured()["frozen_synapses"][0].tolist() == [1 / 8, 0]


def test_units_in_use_are_on_half_as_often_as_the_mean(experiment: Callable) -> None:
    model = make_model(experiment(hidden_units=6, percent_on_fc=0.2, dropout=0.5), (1, 1, 6), [2])
    with torch.no_grad():
        model.blocks[0].linear.weight.copy_(torch.eye(6))
        model.blocks[0].linear.bias.zero_()
    x = torch.eye(6).repeat_interleave(torch.tensor([290, 120, 30, 29, 11, 0]), 0)
    [found] = in_use(model, x)  # 480 pictures, 80 for each of 6 units
    assert found.tolist() == [True, True, False, False, False, False]
    assert in_use(model, x[:1])[0].tolist() == [True, *[False] * 5]


@pytest.mark.parametrize(
    "keys",
    [
        GROW,
        {"dynamic": "set", "initial_density_fc": 0.1, "train_ep": 2},
        {"dynamic": "rigl", "initial_density_fc": 0.1, "mb_size": 2},
        FROZEN,
        {"old_synapse_lr": 0.3, "weight_decay": 0.0, "old_synapse_rule": "importance"},
        {**GROW, **FROZEN, "hidden_layers": 2},
        CONTEXT,
        {**CONTEXT, **GROW, "hidden_layers": 2},
        {**CONTEXT, **GROW, **FROZEN, "mnist_mode": "split", "scenario": "task"},
        {**CONTEXT, "dynamic": "rigl", "mb_size": 2, "weight_sparsity_fc": 0.5},
        {**GROW, **CNN, "old_synapse_lr": 0.5, "weight_decay": 0.0},
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
def test_every_mechanism_is_counted(
    experiment: Callable, stream_of: Callable, trained: Callable, keys: dict[str, Any]
) -> None:
    exp = experiment(**keys)
    stream = stream_of(exp, train=64 if exp.cnn else 300, test=20)
    record, engine = trained(exp, stream)
    stats, model = record.stats(), engine.model
    births, count = stats["synapses_by_birth"], stats["synapses"]
    layers = [*(block.linear for block in model.blocks), *model.heads]
    assert births.shape == (2, len(layers), 3) and (births >= 0).all()
    np.testing.assert_array_equal(births.sum(2), count)
    assert (births[0, :, 2] == 0).all()  # nothing is born in a task to come
    assert stats["weights"].tolist() == [layer.weight.numel() for layer in layers]
    for name in ("density", "frozen_synapses", "learning_rate_factor"):
        assert stats[name].shape == count.shape
        assert ((stats[name] >= 0) & (stats[name] <= 1)).all()
    assert stats["fresh_units"].shape == (2, len(model.blocks))
    assert (stats["fresh_units"].sum(0) <= exp.hidden_units).all()
    assert ("synapses_by_age" in stats) == (exp.old_synapse_lr < 1)
    if "synapses_by_age" in stats:
        np.testing.assert_array_equal(stats["synapses_by_age"].sum(2), count)
    if exp.context == "none":
        for i, layer in enumerate(layers):
            masked = layer.zero_mask.sum() if hasattr(layer, "zero_mask") else 0
            assert count[-1, i] == layer.weight.numel() - masked
    else:  # what only earlier contexts have does not learn
        assert (births[..., 0] == 0).all()
        assert (stats["frozen_synapses"][1, : len(model.blocks)] > 0.2).all()
    assert (stats["frozen_synapses"][0] == 0).all()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {**GROW, "sparsify": False},
        {**CONTEXT, "sparsify": False},
        CNN,
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
def test_where_nothing_changes_nothing_is_counted(
    experiment: Callable, stream_of: Callable, trained: Callable, keys: dict[str, Any]
) -> None:
    """As where the keys of a mechanism do nothing."""
    exp = experiment(**keys)
    record, _ = trained(exp, stream_of(exp, train=64, test=20))
    assert record.measured == {}


@pytest.mark.parametrize("keys", [{}, CONTEXT, {**CONTEXT, **GROW}], ids=str)
def test_what_counts_as_frozen_stays_to_the_bit(
    experiment: Callable, stream_of: Callable, staged: Callable, keys: dict[str, Any]
) -> None:
    exp = experiment(**FROZEN, **keys, old_synapse_rule="used")
    stream = stream_of(exp, train=320)
    some = staged(exp, stream)
    for task in (0, 1):
        before = some.engine.model.hidden[0].linear.weight.detach().clone()
        some.train(task, 32)
        stats = some.measured()
    now = some.engine.model.hidden[0].linear.weight
    same = (now == before)[some.named("census").born[0] >= 0]
    frozen = stats["frozen_synapses"][1, 0]
    assert frozen > 0.1
    assert int(same.sum()) >= round(frozen * stats["synapses"][1, 0])
