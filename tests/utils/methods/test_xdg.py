"""Gating: a task computes what the whole network computes with all other units at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

from exps.config import ConfigError, from_texts
from utils.engines.base import Parts, Router
from utils.engines.batch import Batch, Part
from utils.methods.base import Costs
from utils.methods.xdg import Method

TOLD: dict[str, Any] = {"mnist_mode": "split", "scenario": "task", "num_batch": 3}
XDG: dict[str, Any] = {**TOLD, "methods": ("xdg",), "xdg_gated": 0.5, "hidden_layers": 2}
DENSE: dict[str, Any] = {"sparsify": False, "dropout": 0.0}
WINNERS: dict[str, Any] = {"boost_strength": 0.0, "dropout": 0.0, "weight_sparsity_fc": 0.5}


def gates(units: Tensor, width: int) -> list[Tensor]:
    """1 for the units [layers, size] that take part, 0 for the others: [width] a layer."""
    return [torch.zeros(width).index_fill(0, own, 1) for own in units]


def gated(model: Any, x: Tensor, units: Tensor, head: int) -> Tensor:
    """Logits of a dense network with ReLU, all weights of it, the units multiplied by their gates;
    of one with k-winners, the k largest among those that take part."""
    for block, gate in zip(model.blocks, gates(units, model.units), strict=True):
        x = block.linear(x)
        if hasattr(block.activation, "k"):
            rivals = x.masked_fill(gate == 0, -torch.inf)
            gate = gate * (rivals >= rivals.topk(block.activation.k, 1).values[:, -1:])
        else:
            x = relu(x)
        x = x * gate
    return model.heads[head](x)


@pytest.mark.parametrize(
    ("engine", "keys"),
    [
        *(("reference", DENSE), ("dense", DENSE)),
        *((engine, WINNERS) for engine in ("reference", "dense", "sparse")),
    ],
)
def test_it_is_the_whole_network_with_the_others_at_zero(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str, keys: dict[str, Any]
) -> None:
    """In training, with masks too, and in the tests of every task."""
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    exp = experiment(**XDG, **keys, **plain, engine=engine)
    stream = stream_of(exp, train=128)
    fast, slow = staged(exp, stream), staged(exp, stream).engine.model
    parameters = list(slow.parameters())
    for number, task in enumerate(stream.tasks):
        fast.begin(number)
        fast.engine.begin_epoch(4)
        units = fast.named("xdg").units_of(number)
        for start in range(0, 128, 32):
            samples = task.train.take(slice(start, start + 32))
            fast.step(samples)
            x = stream.inputs(stream.train, samples).flatten(1)
            loss = cross_entropy(
                gated(slow, x, units, number), stream.labels(stream.train, samples)
            )
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for p, g in zip(parameters, gradients, strict=True):
                    p -= 0 if g is None else exp.lr * g
        for block in slow.blocks if exp.sparsify else ():
            block.linear.rezero_weights()
        if number == 1:  # in the middle: tests of a task before, of this one, and of one to come
            for i, tested in enumerate(stream.tasks):
                x = stream.inputs(stream.test, tested.test).flatten(1)
                expected = gated(slow, x, fast.named("xdg").units_of(i), i)
                logits, _ = fast.engine.logits(tested.test, i)
                torch.testing.assert_close(logits, expected.detach(), rtol=0, atol=1e-4)
                assert fast.engine.found() is None
    for (name, one), two in zip(fast.engine.model.named_parameters(), parameters, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_what_is_gated_off_stays_to_the_bit(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    """With momentum, weight decay, boosting and dropout."""
    exp = experiment(**XDG, engine=engine, weight_decay=0.01)
    some = staged(exp, stream_of(exp, train=128))
    some.train(0, 32)
    before = {name: value.clone() for name, value in some.engine.model.state_dict().items()}
    some.train(1, 32)
    after = some.engine.model.state_dict()
    first, second = gates(some.named("xdg").units_of(1), 64)
    free = {
        "hidden.0.linear.weight": first[:, None].expand(64, 784),
        "hidden.0.linear.bias": first,
        "hidden.0.activation.duty_cycle": first,
        "hidden.1.linear.weight": torch.outer(second, first),
        "heads.1.weight": second.expand(2, 64),
        "heads.0.weight": torch.zeros(2, 64),
        "heads.0.bias": torch.zeros(2),
    }
    for name, may in free.items():
        moved = after[name] != before[name]
        assert not moved[may == 0].any(), name
        assert bool(moved.any()) == bool(may.any()), name
    assert (after["heads.1.bias"] != before["heads.1.bias"]).all()


def test_units_are_drawn_for_every_task_and_layer(experiment: Callable) -> None:
    exp = experiment(**XDG | {"xdg_gated": 0.75}, hidden_units=400)
    some, again = Method(exp, None), Method(exp, None)
    assert isinstance(some, Parts) and some.told and not isinstance(some, Router)
    drawn = [torch.stack(some.units_of(task)) for task in range(20)]
    assert all(units.shape == (2, 100) and (units.diff() > 0).all() for units in drawn)
    assert torch.equal(torch.stack(again.units_of(7)), drawn[7]) and not some.state()
    rows = torch.cat(drawn)
    assert len(rows.unique(dim=0)) == 40
    counts = rows.flatten().bincount(minlength=400).double()  # of 40 draws, a quarter each
    assert counts.mean() == 10 and counts.var() == pytest.approx(40 * 0.25 * 0.75, rel=0.3)
    other = Method(experiment(**XDG, hidden_units=400, seed=1), None)
    assert not torch.equal(other.units_of(0)[0][:100], drawn[0][0])


def test_gating_forgets_less(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    """Split MNIST, dense, five tasks, with Adam: the gates are all that is different."""
    shared = {**TOLD, **DENSE, "num_batch": 5, "hidden_units": 100, "hidden_layers": 2}
    shared |= {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "train_ep": 3}
    shared |= {"train_ep_inc": 3}
    exp = experiment(**shared, methods=("xdg",), xdg_gated=0.8)
    stream = stream_of(exp, train=1000, test=200)
    record, engine = trained(exp, stream)
    plain, _ = trained(experiment(**shared), stream)
    assert record.accs[-1].mean() > plain.accs[-1].mean() + 0.05
    assert record.accs[-1].mean() > 0.93
    assert engine.name == "dense, by task" and Method(exp, stream).costs(engine) == Costs()
    stats = record.stats()
    assert "context_right" not in stats
    assert ((stats["on_idxs"] > 0).sum(1) <= 20).all() and stats["on_idxs"].shape == (5, 100)
    assert 0 < stats["perc_on_avg"].max() <= 20


def test_what_is_counted(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    """A synapse is a weight of some task's part, whose one classifier is its own."""
    exp = experiment(**TOLD, methods=("census", "xdg"), xdg_gated=0.5)
    record, engine = trained(exp, stream_of(exp, train=64))
    synapses = record.stats()["synapses"]
    units = [set(engine.units_of(task)[0].tolist()) for task in range(3)]
    so_far = [set.union(*units[: n + 1]) for n in range(3)]
    assert synapses[:, 0].tolist() == [784 * len(known) for known in so_far]
    assert synapses[:, 1:].tolist() == [[64, 0, 0], [64, 64, 0], [64, 64, 64]]


def test_a_step_trains_no_other_head(
    experiment: Callable, stream_of: Callable, staged: Callable
) -> None:
    exp = experiment(**XDG)
    stream = stream_of(exp)
    some = staged(exp, stream)
    some.begin(1)
    some.engine.begin_epoch(1)
    batch = Batch((*Batch.of(stream.tasks[1].train, 1).parts, Part(stream.tasks[0].train, 0)))
    with pytest.raises(Exception, match="its head alone"):
        some.engine.step(batch)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scenario": "class"}, "scenario = task"),
        ({"model": "linear"}, "linear does not say what that is"),
        ({"cumul": "true"}, "no earlier task for xdg"),
        ({"sparse_layers": "nupic"}, "sparse_layers = own"),
        ({"context": "prototype"}, "contexts and xdg each give"),
        ({"methods": "xdg, separate"}, "separate and xdg each give"),
        ({"methods": "er, xdg"}, "choose er or xdg"),
        ({"xdg_gated": "0.9999"}, "none of 200 units"),
        ({"percent_on_fc": "0.25"}, "50 units win, but only the 40 of a task may"),
        ({"weight_sparsity_fc": "0.01", "hidden_layers": "2"}, "a unit of 40 inputs"),
    ],
)
def test_what_is_refused(changes: dict[str, str], reason: str) -> None:
    texts = {"mnist_mode": "split", "num_batch": "5", "hidden_units": "200", "methods": "xdg"}
    texts |= {"percent_on_fc": "0.1", "device": "cpu"}
    from_texts("Test", texts)
    with pytest.raises(ConfigError, match=reason):
        from_texts("Test", texts | changes)


def test_parts_come_before_what_acts_on_them(experiment: Callable) -> None:
    exp = experiment(**TOLD, methods=("ewc", "xdg"), old_synapse_lr=0.5, weight_decay=0.0)
    assert exp.all_methods == ("xdg", "census", "old_synapses", "ewc")
    assert list(exp.parts) == ["xdg"]
    assert exp.part.groups == (13,)  # of 64, four fifths of which are gated off
