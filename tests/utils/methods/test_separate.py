"""Separate networks: each task's is as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from exps import rules
from exps.config import ConfigError, from_texts
from exps.experiment import Experiment
from utils.methods.base import Costs
from utils.methods.separate import Method

SEPARATE: dict[str, Any] = {
    "mnist_mode": "split",
    "scenario": "task",
    "num_batch": 3,
    "methods": ("separate",),
}


def test_units_are_shared_out(experiment: Callable) -> None:
    some = Method(experiment(**SEPARATE, hidden_units=11, hidden_layers=2), None)
    assert [[own.tolist() for own in some.units_of(task)] for task in range(3)] == [
        [[0, 1, 2]] * 2,
        [[3, 4, 5]] * 2,
        [[6, 7, 8]] * 2,
    ]


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_a_task_is_trained_as_if_it_were_alone(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    """The second one: whether or not there was a first, and whether or not there is a third."""
    plain = {"hidden_layers": 2, "dropout": 0.0, "boost_strength": 0.0}
    exp = experiment(**SEPARATE, **plain, engine=engine)
    stream = stream_of(exp, train=128)
    logits = []
    for tasks in ((1,), (0, 1), (0, 1, 2)):
        some = staged(exp, stream)
        for task in tasks:
            some.train(task, 32)
        logits.append(some.engine.logits(stream.tasks[1].test, 1)[0])
    for one in logits[:2]:  # the sparse engine rounds otherwise when it begins anew
        torch.testing.assert_close(one, logits[2], rtol=0, atol=1e-6 * (engine == "sparse"))
    units, model = slice(21, 42), some.engine.model
    x = stream.inputs(stream.test, stream.tasks[1].test).flatten(1)
    for block in model.blocks:  # the whole network, cut by hand
        linear = block.linear
        inputs = linear.weight[units] if x.shape[1] == 784 else linear.weight[units, units]
        x = x @ inputs.t() + linear.bias[units]
        x = x * (x >= x.topk(8, 1).values[:, -1:])
    expected = x @ model.heads[1].weight[:, units].t() + model.heads[1].bias
    torch.testing.assert_close(logits[2], expected.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sparsify", [True, False])
def test_nothing_is_forgotten(
    experiment: Callable, stream_of: Callable, trained: Callable, sparsify: bool
) -> None:
    boost = {"boost_strength": 2.0, "boost_strength_factor": 0.5}  # of a task, not of the run
    exp = experiment(**SEPARATE, **boost, sparsify=sparsify, train_ep=4, train_ep_inc=4)
    stream = stream_of(exp, train=800, test=200)
    record, engine = trained(exp, stream)
    for task in range(3):
        np.testing.assert_array_equal(record.accs[task:, task], record.accs[task, task])
    assert record.accs[-1].mean() > 0.95
    if sparsify:
        assert engine.held["parts.winners.0.boost_strength"].tolist() == [2 / 2**4] * 3
    assert Method(exp, stream).costs(engine) == Costs()
    on = record.stats()["on_idxs"] > 0  # [tasks, units]
    assert (on.sum(0) <= 1).all() and not on[:, 63].any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scenario": "domain"}, "separate has to be told"),
        ({"model": "linear"}, "linear does not say what that is"),
        ({"cnn": "true", "channels": "4", "sparsify": "false"}, "none of 4 channels"),
        ({"cumul": "true"}, "no earlier task for separate"),
        ({"hidden_units": "4", "sparsify": "false"}, "none of 4 units"),
        ({"percent_on_fc": "0.25"}, "50 units win, but only the 40 of a task may"),
        ({"methods": "er, separate"}, "choose er or separate"),
    ],
)
def test_what_is_refused(changes: dict[str, str], reason: str) -> None:
    texts = {"mnist_mode": "split", "num_batch": "5", "hidden_units": "200", "device": "cpu"}
    texts |= {"percent_on_fc": "0.1", "methods": "separate"}
    from_texts("Test", texts)
    with pytest.raises(ConfigError, match=reason):
        from_texts("Test", texts | changes)


def test_doubts() -> None:
    exp = Experiment(name="Test", **SEPARATE, hidden_units=300, percent_on_fc=0.1)
    exp = replace(exp, num_batch=5)
    assert list(rules.doubts(exp)) == []
    [(keys, why)] = rules.doubts(replace(exp, hidden_units=301))
    assert keys[0] == "hidden_units" and "leave 1 unused" in why
    [(keys, why)] = rules.doubts(replace(exp, methods=("ewc", "separate")))
    assert keys[0] == "methods" and "so ewc can do nothing" in why
    [(keys, why)] = rules.doubts(replace(exp, methods=("xdg",), xdg_gated=0.0))
    assert keys[0] == "xdg_gated" and "of 300 units is none" in why
