"""Small experiments on the real MNIST that the tests of utils share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from benchmarks import make_stream
from benchmarks.stream import Task, TaskStream, joint
from exps.config import Experiment
from models import make_model
from utils.engine import make_engine
from utils.engine.base import Engine
from utils.progress import Progress
from utils.runtime import seed_everything
from utils.training import RunRecord, empty_record, run_stream

SMALL = {"hidden_units": 64, "percent_on_fc": 0.125, "num_batch": 2, "mb_size": 32, "device": "cpu"}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small products gain nothing from more, which wait for each other where others compute too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def experiment() -> Callable[..., Experiment]:
    """A small sparse experiment, two tasks of Permuted MNIST, with some keys set otherwise."""
    return lambda **changes: Experiment(name="Test", **{**SMALL, **changes})


@cache
def _whole_stream(**keys: Any) -> TaskStream:
    return make_stream(Experiment(name="Test", **keys))


@pytest.fixture(scope="session")
def stream_of() -> Callable[..., TaskStream]:
    """The stream of an experiment, each task cut to its first `train` and `test` pictures."""

    def make(exp: Experiment, train: int = 256, test: int = 100) -> TaskStream:
        keys = ("benchmark", "mnist_mode", "num_batch", "scenario", "data", "seed")
        whole = _whole_stream(**{key: getattr(exp, key) for key in keys})

        def cut(task: Task) -> Task:
            start, end = slice(train), slice(test)
            return replace(task, train=task.train.take(start), test=task.test.take(end))

        tasks = tuple(map(cut, whole.tasks))
        stream = replace(whole, training=tasks, tasks=tasks)
        return joint(stream) if exp.cumul else stream

    return make


@pytest.fixture(scope="session")
def built() -> Callable[[Experiment, TaskStream], tuple[Engine, torch.Generator]]:
    """The engine of an experiment, seeded as a run does it, and the generator of the data order."""

    def build(exp: Experiment, stream: TaskStream) -> tuple[Engine, torch.Generator]:
        order = seed_everything(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        return make_engine(exp, model, stream, torch.device("cpu")), order

    return build


@pytest.fixture(scope="session")
def trained(
    built: Callable[[Experiment, TaskStream], tuple[Engine, torch.Generator]],
) -> Callable[[Experiment, TaskStream], tuple[RunRecord, Engine]]:
    """A whole run of an experiment: what it recorded, and its engine."""

    def run(exp: Experiment, stream: TaskStream) -> tuple[RunRecord, Engine]:
        engine, order = built(exp, stream)
        record = empty_record(stream, engine.model)
        with Progress(len(stream.training), quiet=True) as progress:
            run_stream(exp, stream, engine, order, record, progress)
        return record, engine

    return run
