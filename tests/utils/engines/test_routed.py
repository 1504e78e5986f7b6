"""Contexts compute what the whole network would, with all other units out of the competition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparse_syn.functional import boost_activations
from sparse_syn.k_winners import KWinnersBase
from utils.engines.routed import RoutedEngine
from utils.live.progress import Progress
from utils.training.loop import run_stream
from utils.training.record import empty_record

CONTEXT: dict[str, Any] = {"context": "prototype", "context_units": 16, "dropout": 0.0}
SEPARATE = ("separate",)
PLAIN = {"momentum": 0.0, "nesterov": False, "boost_strength": 0.0}


def forward(model: Any, x: Tensor, units: Tensor, bias: Tensor, k: int) -> Tensor:
    """Logits when only these units may win, by the whole weights."""
    for block, allowed in zip(model.blocks, units, strict=True):
        values = block.linear(x)
        rivals = torch.full_like(values, -torch.inf)
        rivals[:, allowed] = boost_activations(
            values, block.activation.duty_cycle, block.activation.boost_strength
        )[:, allowed]
        x = values.masked_fill(rivals < rivals.topk(k, 1).values[:, -1:], 0)
    return x @ model.heads[0].weight.t() + bias


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize("layers", [1, 2])
def test_it_is_the_whole_network_with_the_others_silent(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str, layers: int
) -> None:
    exp = experiment(**CONTEXT, **PLAIN, engine=engine, hidden_layers=layers, weight_decay=0.0)
    stream = stream_of(exp, train=320)
    trainer = staged(exp, stream)
    fast, contexts = trainer.engine, trainer.named("contexts")
    slow = staged(exp, stream).engine
    model, parameters = slow.model, list(slow.model.parameters())
    for number, task in enumerate(stream.tasks):
        bias = model.heads[0].bias.detach().clone().requires_grad_()
        trainer.begin(number)
        fast.begin_epoch(10)
        for start in range(0, 320, 32):
            samples = task.train.take(slice(start, start + 32))
            trainer.step(samples)
            units = contexts.units_of(task.train.view)
            x = stream.inputs(stream.train, samples).flatten(1)
            loss = cross_entropy(
                forward(model, x, units, bias, 8), stream.labels(stream.train, samples)
            )
            gradients = torch.autograd.grad(loss, [bias, *parameters], allow_unused=True)
            with torch.no_grad():
                for p, g in zip([bias, *parameters], gradients, strict=True):
                    if g is not None:
                        p -= exp.lr * g
    for (name, one), two in zip(fast.model.named_parameters(), parameters, strict=True):
        if not name.startswith("heads") or name.endswith("weight"):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-5, msg=lambda m, n=name: n + m)
    torch.testing.assert_close(fast.held["parts.biases.0"][-1], bias.detach(), rtol=0, atol=1e-5)
    samples = stream.tasks[0].test
    x = stream.inputs(stream.test, samples).flatten(1)
    logits, _ = fast.logits(samples, 0)
    found = fast.found()
    for context in found.unique().tolist():
        expected = forward(
            model, x, contexts.units_of(context), fast.held["parts.biases.0"][context], 8
        )
        here = found == context
        torch.testing.assert_close(logits[here], expected[here].detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_what_other_contexts_learnt_stays_to_the_bit(
    experiment: Callable, stream_of: Callable, trained: Callable, staged: Callable, engine: str
) -> None:
    """With momentum, weight decay, boosting and dropout: nothing of the first task moves."""
    exp = experiment(**CONTEXT | {"dropout": 0.5}, engine=engine, weight_decay=0.01)
    stream = stream_of(exp, train=2000, test=300)
    record, after = trained(exp, stream)
    assert isinstance(after, RoutedEngine)
    first, second = after.units_of(0)[0], after.units_of(1)[0]
    assert not set(first.tolist()) & set(second.tolist())
    before = staged(exp, stream)
    before.train(0, 32)
    learnt = before.engine.model.hidden[0].linear.weight.detach().clone()
    bits = learnt[first].clone()
    before.train(1, 32)
    now = before.engine.model.hidden[0].linear.weight
    assert torch.equal(now[first], bits)
    assert not torch.equal(now[second], learnt[second])
    assert record.accs[1, 0] == record.accs[0, 0]  # no forgetting
    np.testing.assert_array_equal(record.context_right, [[1, 0], [1, 1]])


def test_what_is_measured(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    exp = experiment(**CONTEXT, hidden_units=40, percent_on_fc=0.1, context_overlap=0.25)
    record, engine = trained(exp, stream_of(exp, train=200))
    stats = record.stats()
    assert stats["fresh_units"].tolist() == [[16], [12]]
    per_unit = 784 + 10
    assert stats["synapses"].sum(1).tolist() == [16 * per_unit, 28 * per_unit]
    assert stats["synapses_by_birth"][1].tolist() == [[0, 16 * 784, 12 * 784], [0, 160, 120]]
    # In the second context 12 units and 4 old ones learn.
    assert stats["frozen_synapses"][1] == pytest.approx([12 / 28] * 2)
    on = stats["on_idxs"]
    assert ((on > 0).sum(1) <= 16).all() and on.shape == (2, 40)
    assert stats["perc_on_avg"] == pytest.approx(10, abs=0.1)  # 4 of all 40
    assert engine.name == "dense, by context"


def test_entropy_is_that_of_all_tasks(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """A unit wins in its contexts alone: all of them evenly would be the most there is."""
    exp = experiment(**CONTEXT, hidden_units=32, percent_on_fc=0.25, train_ep=1, train_ep_inc=1)
    record, engine = trained(exp, stream_of(exp, train=600))
    stats = record.stats()
    half, whole = stats["entropy"][:, 0] / stats["max_entropy"][0]
    assert 0.3 < half < 0.7 < whole <= 1.001
    p = engine.model.blocks[0].activation.duty_cycle.double() / 2  # a context each
    bits = -(p * p.log2() + (1 - p) * (1 - p).log2()).nansum()
    assert stats["entropy"][1, 0] == pytest.approx(float(bits), rel=1e-4)


def test_masks_are_those_of_the_whole_network(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    exp = experiment(**CONTEXT, hidden_layers=2, weight_sparsity_fc=0.25)
    record, engine = trained(exp, stream_of(exp, train=200))
    for block in engine.model.blocks:
        assert (block.linear.weight[block.linear.zero_mask] == 0).all()
    assert record.weight_density["hidden.1.linear"] == pytest.approx(0.25)


def test_a_prototype_is_the_mean_of_the_pictures_each_counted_once(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(**CONTEXT, train_ep=3, train_ep_inc=2)
    stream = stream_of(exp, train=200)
    engine, methods, order = built(exp, stream)
    record = empty_record(exp, stream, engine.model)
    with Progress(2, quiet=True) as progress:
        run_stream(exp, stream, engine, methods, order, record, progress)
    [contexts] = [method for method in methods if method.name == "contexts"]
    means = [
        stream.inputs(stream.train, task.train).flatten(1).double().mean(0) for task in stream.tasks
    ]
    torch.testing.assert_close(contexts.tables[1], torch.stack(means).float())
    assert contexts.rule.count.tolist() == [200] * len(means)


@pytest.mark.parametrize(
    ("model", "positions", "keys"),
    [
        ("cnn", 24**2, {"methods": SEPARATE}),
        ("resnet18", 28**2, {"context": "given", "context_units": 4}),
    ],
)
def test_channels_of_a_task_stay_to_the_bit(
    experiment: Callable,
    stream_of: Callable,
    trained: Callable,
    model: str,
    positions: int,
    keys: dict[str, Any],
) -> None:
    """With k-winners, masks, batch norm, momentum and decay: three pairs of digits are learned, and
    nothing of an earlier one moves."""
    told = {"mnist_mode": "split", "scenario": "task", "num_batch": 3, "percent_on_fc": 0.1}
    sparse = {"model": model, "channels": 12, "percent_on_conv": 0.17, "weight_sparsity_conv": 0.7}
    plain = {"hidden_units": 60, "dropout": 0.0, "train_ep": 3, "train_ep_inc": 3, "lr": 0.05}
    exp = experiment(**told, **sparse, **plain, **keys)
    record, engine = trained(exp, stream_of(exp, train=640, test=100))
    for task in range(3):
        np.testing.assert_array_equal(record.accs[task:, task], record.accs[task, task])
    assert record.accs[-1].mean() > 0.8
    assert engine.name == "dense, by task"
    for one, two in combinations([engine.units_of(task) for task in range(3)], 2):
        assert not any(torch.isin(a, b).any() for a, b in zip(one, two, strict=True))
    stats = record.stats()
    read = engine.model.wires[-1].writes  # the group that classifiers read
    for task, on in enumerate(stats["on_idxs"]):
        assert set(np.flatnonzero(on)) <= set(engine.units_of(task)[read].tolist())
    layers = [m.duty_cycle for m in engine.model.modules() if isinstance(m, KWinnersBase)]
    first = next(i for i, duty_cycle in enumerate(layers) if duty_cycle.dim() > 1)
    p = layers[first].double() / 3  # a task each
    bits = -(p * p.log2() + (1 - p) * (1 - p).log2()).nansum() * positions
    assert stats["entropy"][-1, first] == pytest.approx(float(bits), rel=1e-4)


def test_a_task_whose_context_has_not_begun_is_tested_with_all_units(
    experiment: Callable, stream_of: Callable, staged: Callable
) -> None:
    told = {"mnist_mode": "split", "scenario": "task", "num_batch": 3, "context": "given"}
    exp = experiment(**CONTEXT | told)
    stream = stream_of(exp, train=320)
    trainer = staged(exp, stream)
    for begun in range(-1, 2):
        if begun >= 0:
            trainer.train(begun, 32)
        for task in range(begun + 1, 3):
            logits, _ = trainer.engine.logits(stream.tasks[task].test, task)
            model = trainer.engine.model.eval()
            x = stream.inputs(stream.test, stream.tasks[task].test)
            with torch.no_grad():
                torch.testing.assert_close(logits, model(x, task), rtol=0, atol=1e-4)


def test_a_picture_costs_what_its_part_computes(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """Multiply-adds are those of 16 of 64 units; parameters those of all."""
    exp = experiment(**CONTEXT, hidden_units=64, percent_on_fc=0.125)
    record, engine = trained(exp, stream_of(exp, train=100))
    hidden, head = record.stats()["costs"]
    pixels, classes = 784, engine.model.heads[0].out_features
    assert (hidden["params"], hidden["macs"]) == (64 * (pixels + 1), 16 * pixels)
    assert (head["params"], head["macs"], head["active_macs"]) == (
        *((64 + 1) * classes, 16 * classes),
        8 * classes,
    )
