"""Replay: what the memory holds, what a step trains on, and the same on every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from benchmarks.stream import Samples, TaskStream
from utils.engines.batch import Batch
from utils.methods.base import Moment
from utils.methods.er import Method
from utils.methods.memory import ByClass, Reservoir

CPU = torch.device("cpu")


@pytest.fixture
def stream(experiment: Callable, stream_of: Callable) -> TaskStream:
    """Eight tasks with a head for all."""
    return stream_of(experiment(num_batch=8), train=400)


def test_every_picture_has_the_same_chance_to_be_kept(
    experiment: Callable, stream: TaskStream
) -> None:
    counts = np.zeros(40)
    for seed in range(600):
        memory = Reservoir(experiment(methods=("er",), buffer_size=8, seed=seed), stream)
        for start in range(0, 40, 5):
            places, which = memory.offer(Samples(torch.arange(start, start + 5), start // 20))
            assert torch.equal(memory.rows[places], start + which)
        assert len(memory) == 8 == len(memory.rows.unique())
        assert (memory.views == memory.rows // 20).all()  # a row keeps its view
        counts[memory.rows.numpy()] += 1
    assert chisquare(counts).pvalue > 0.001


def test_a_memory_draws_different_pictures_and_goes_on_where_it_was(
    experiment: Callable, stream: TaskStream
) -> None:
    exp = experiment(methods=("er",), buffer_size=10)
    one, two = Reservoir(exp, stream), Reservoir(exp, stream)
    assert not len(one)
    one.offer(Samples(torch.arange(30), torch.arange(30) % 3))
    two.restore({k: v.clone() if hasattr(v, "clone") else v for k, v in one.state().items()})
    for memory in (one, two):
        memory.offer(Samples(torch.arange(30, 60), 7))
    drawn, again = (memory.samples(memory.draw(6), CPU) for memory in (one, two))
    assert len(drawn.rows.unique()) == 6
    assert torch.equal(drawn.rows, again.rows) and torch.equal(drawn.view, again.view)
    assert len(one.draw(100)) == 10
    assert (one.views[one.draw(100, earlier=7)] < 7).all() and not len(one.draw(100, earlier=0))


@pytest.mark.parametrize("per_class", [0, 3])
def test_as_many_of_every_class_of_every_task_are_kept(
    experiment: Callable, stream: TaskStream, per_class: int
) -> None:
    keys = {"methods": ("gdumb",), "buffer_size": 90, "buffer_per_class": per_class}
    memory = ByClass(experiment(**keys), stream)
    before: set[tuple[int, int]] = set()
    for task in range(4):
        memory.keep(memory.shuffled(stream.training[task].train))
        count = per_class or 90 // (10 * (task + 1))
        labels = stream.train.y[memory.rows]
        for view in range(task + 1):
            its = labels[memory.views == view]
            assert its.bincount(minlength=10).tolist() == [count] * 10
        now = set(zip(memory.rows.tolist(), memory.views.tolist(), strict=True))
        assert len(now) == len(memory) <= 90 or per_class
        assert {pair for pair in now if pair[1] < task} <= before  # of the earlier some stay
        before = now
    again = ByClass(experiment(**keys), stream)
    again.restore(memory.state())
    assert torch.equal(again.draw(7), memory.draw(7)) and torch.equal(again.kinds, memory.kinds)


def test_tasks_count_alike_and_only_earlier_ones_are_replayed(
    experiment: Callable, stream_of: Callable
) -> None:
    keys = {"scenario": "task", "mnist_mode": "split", "num_batch": 4, "methods": ("er",)}
    exp = experiment(**keys, buffer="class", buffer_per_class=5, er_weight="tasks", er_batch=12)
    stream = stream_of(exp)
    method = Method(exp, stream)
    for task in range(3):
        method.end_task(None, task)
    now = Moment(task=2, step=0, epoch=8, total=16)
    more = method.before_step(None, Batch.of(stream.tasks[2].train.take(slice(32)), 2), now)
    assert [(part.head, part.size) for part in more.parts] == [(2, 32), (0, 6), (1, 6)]
    assert [part.weight for part in more.parts] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_a_step_counts_every_picture_alike(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(
        methods=("er",),
        buffer_size=20,
        er_batch=8,
        scenario="task",
        mnist_mode="split",
        num_batch=3,
    )
    stream = stream_of(exp)
    method = Method(exp, stream)
    batch = Batch.of(stream.tasks[0].train.take(slice(32)), 0)
    now = Moment(task=0, step=0, epoch=8, total=16)
    assert method.before_step(None, batch, now) == batch  # nothing is in memory yet
    for task in (0, 1):
        method.before_step(None, batch, now)
        method.after_step(None, Batch.of(stream.tasks[task].train.take(slice(32)), task), [])
    more = method.before_step(None, Batch.of(stream.tasks[2].train.take(slice(32)), 2), now)
    assert sum(part.size for part in more.parts) == 40
    assert {part.head for part in more.parts[1:]} <= {0, 1}  # a part for each head
    for part in more.parts:
        assert part.weight == pytest.approx(part.size / 40)
        if part is not more.current:
            assert (part.samples.view == part.head).all()
    method.before_step(None, batch, now._replace(step=8))
    seen = method.memory.seen
    method.after_step(None, batch, [])
    assert method.memory.seen == seen  # in a second epoch nothing is new


def test_what_replay_costs(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    exp = experiment(methods=("er",), buffer_size=20, er_batch=8)
    record, _ = trained(exp, stream_of(exp))
    forward = 784 * 64 + 64 * 10
    costs = {"parameters": 0, "pictures": 20, "memory": 2 * 8 * 20, "macs": 3 * 8 * forward}
    assert record.stats()["method_costs"] == {"er": costs}


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize(
    "keys", [{}, {"scenario": "task", "mnist_mode": "split", "num_batch": 3}], ids=["one", "heads"]
)
def test_replay_is_the_same_on_every_engine_and_forgets_less(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, keys: Any
) -> None:
    shared: dict[str, Any] = {**keys, "dropout": 0.0, "boost_strength": 0.0, "train_ep_inc": 4}
    exp = experiment(**shared, methods=("er",), buffer_size=200, engine=engine)
    stream = stream_of(exp, train=1000)
    record, _ = trained(exp, stream)
    reference, _ = trained(exp if engine == "reference" else _as(exp, "reference"), stream)
    assert record.epochs[-1].loss == pytest.approx(reference.epochs[-1].loss, rel=0.05)
    plain, _ = trained(experiment(**shared, engine=engine), stream)
    if not keys:  # with a head a task little is forgotten
        assert record.accs[-1, 0] > plain.accs[-1, 0] + 0.05


def _as(exp: Any, engine: str) -> Any:
    from dataclasses import replace

    return replace(exp, engine=engine)
