"""Training that ends where watched pictures say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import make_stream
from benchmarks.apart import watching
from benchmarks.classes import DataError
from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from exps.rules import contradictions, never_due
from utils.engines.base import Engine
from utils.training.evaluation import watched_accuracy

# Enough steps on few pictures: after some epochs it is learned by heart, and it goes up and down.
KEYS: dict[str, Any] = {"patience": 2, "watched": 0.25, "train_ep": 12, "train_ep_inc": 12}
KEYS |= {"mb_size": 16, "weight_decay": 0.0}
METHODS: list[dict[str, Any]] = [
    {},
    {"engine": "sparse", "methods": ("er",), "buffer_size": 40},
    {"engine": "dense", "methods": ("si", "lwf"), "dropout": 0.3},
    {"engine": "sparse", "dynamic": "grow", "initial_density_fc": 0.1},
    {"engine": "reference", "context": "prototype", "context_units": 32},
    {"classifier": "ridge", "ridge_strength": 10.0},
]


@pytest.fixture
def watched_stream(stream_of: Callable) -> Callable[[Experiment], TaskStream]:
    def make(exp: Experiment) -> TaskStream:
        return watching(stream_of(exp, train=80), exp.watched, exp.seed, range(exp.num_batch))

    return make


def rows(samples: Samples | None) -> set[int]:
    assert samples is not None
    return set(samples.rows.tolist())


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: some.clone() for name, some in engine.model.state_dict().items()}


@pytest.mark.parametrize("keys", METHODS, ids=str)
def test_a_task_ends_as_if_its_best_epoch_had_been_the_last(
    experiment: Callable, watched_stream: Callable, run_to: Callable, keys: dict[str, Any]
) -> None:
    """The same network as that of a run of so many epochs; no earlier epoch had been as good."""
    exp = experiment(**KEYS, **keys, num_batch=1)
    stream = watched_stream(exp)
    record, engine, methods, _ = run_to(exp, stream)
    trained, best = int(record.trained[0]), int(record.best[0])
    assert 1 <= best <= trained < 12 and trained == best + exp.patience == len(record.epochs)
    short, other, others, _ = run_to(replace(exp, train_ep=best), stream)
    assert all(torch.equal(weights(other)[k], some) for k, some in weights(engine).items())
    assert np.array_equal(short.accs, record.accs)
    for mine, its in zip(methods, others, strict=True):
        for name, some in mine.state().items():
            if isinstance(some, torch.Tensor):
                assert torch.equal(some, its.state()[name]), (mine.name, name)
    task, found = stream.training[0], []
    for epochs in range(1, trained + 1):  # their ends, without patience
        _, engine, _, _ = run_to(replace(exp, train_ep=epochs, patience=0), stream)
        found.append(watched_accuracy(engine, task))
    assert found.index(max(found)) + 1 == best


@pytest.mark.parametrize("keys", METHODS, ids=str)
def test_what_comes_after_is_as_if_too(
    experiment: Callable, watched_stream: Callable, run_to: Callable, keys: dict[str, Any]
) -> None:
    """The pictures of the next task come in the same order, and dropout is the same."""
    exp = experiment(**KEYS, **keys)
    stream = watched_stream(exp)
    record, engine, _, _ = run_to(exp, stream)
    first, second = map(int, record.best)
    assert min(first, second) < 10
    same = replace(exp, train_ep=first, train_ep_inc=second)
    short, other, _, _ = run_to(same, stream)
    assert short.best.tolist() == [first, second] == short.trained.tolist()
    assert all(torch.equal(weights(other)[k], some) for k, some in weights(engine).items())


@pytest.mark.parametrize("keys", METHODS, ids=str)
def test_it_resumes_to_the_bit(
    experiment: Callable, watched_stream: Callable, run_to: Callable, keys: dict[str, Any]
) -> None:
    """In all epochs of the second task, before its best one and after."""
    exp = experiment(**KEYS, **keys)
    stream = watched_stream(exp)
    record, engine, _, _ = run_to(exp, stream)
    steps = record.lengths[1].epoch * int(record.trained[1])
    for stop in range(2, steps + 1, 3):
        *_, tree = run_to(exp, stream, stop)
        assert tree is not None
        done, other, _, _ = run_to(exp, stream, -1, tree)
        assert all(torch.equal(weights(other)[k], some) for k, some in weights(engine).items())
        for name in ("trained", "best", "accs"):
            assert np.array_equal(getattr(done, name), getattr(record, name))


def test_what_is_watched_is_not_trained_on() -> None:
    exp = Experiment(name="x", benchmark="cifar", data="sample", num_batch=5, scenario="class")
    plain = make_stream(exp)
    stream = make_stream(replace(exp, patience=1, watched=0.2))
    for before, task in zip(plain.training, stream.training, strict=True):
        mine, held = rows(task.train), rows(task.watched)
        assert not mine & held and mine | held == rows(before.train)
        kinds = stream.train.y[sorted(held)].unique(return_counts=True)[1]
        assert kinds.tolist() == [20, 20]
        assert rows(task.test) == rows(before.test)
    again = make_stream(replace(exp, patience=1, watched=0.2, seed=1))
    assert rows(again.training[0].watched) != rows(stream.training[0].watched)
    first = make_stream(replace(exp, patience=1, classifier="ridge", features="first"))
    assert [task.watched is None for task in first.training] == [False, True, True, True, True]
    views = Experiment(name="x", num_batch=3, cumul=True, patience=1, watched=0.999999)
    [union] = make_stream(views).training  # a picture in several views is held out in all of them
    assert rows(union.train) and not rows(union.train) & rows(union.watched)
    joint = make_stream(replace(exp, patience=1, watched=0.2, cumul=True))
    assert rows(joint.training[0].watched) == set().union(
        *(rows(task.watched) for task in stream.training)
    )


def test_with_nothing_to_watch(experiment: Callable, stream_of: Callable) -> None:
    stream = stream_of(experiment(), train=1)
    with pytest.raises(DataError, match="no class of it has two training pictures"):
        watching(stream, 0.1, 0, [0])


def test_what_cannot_be_together_and_what_is_of_no_use() -> None:
    exp = Experiment(name="x", patience=3, eval_every=10, train_ep=9)
    assert [keys for keys, _ in contradictions(exp)] == [("patience", "eval_every")]
    assert list(contradictions(replace(exp, eval_every=0))) == []
    for epochs, expected in ((3, [("patience",)]), (4, [])):
        exp = replace(exp, train_ep=epochs, eval_every=0)
        assert [keys for keys, _ in never_due(exp, [10, 10])] == expected
