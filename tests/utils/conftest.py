"""Small experiments on the real MNIST, and made-up results, that the tests of utils share."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import make_stream
from benchmarks.stream import Samples, Task, TaskStream, joint
from exps.config import Experiment, as_dict
from models import make_model
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.live.progress import Progress
from utils.methods.base import Method, Moment
from utils.methods.make import make_methods
from utils.runs import checkpoint
from utils.system.runtime import seed_everything
from utils.training.loop import run_stream
from utils.training.record import TRAINING, Place, RunRecord, empty_record, lengths

SMALL = {"hidden_units": 64, "percent_on_fc": 0.125, "num_batch": 2, "mb_size": 32, "device": "cpu"}
Save = Callable[..., Path]


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
        keys = ("benchmark", "mnist_mode", "num_batch", "scenario", "outputs", "data", "seed")
        keys += ("stream", "blur")
        whole = _whole_stream(**{key: getattr(exp, key) for key in keys if key in exp.keys})

        def cut(task: Task) -> Task:
            start, end = slice(train), slice(test)
            return replace(task, train=task.train.take(start), test=task.test.take(end))

        training, tasks = (tuple(map(cut, its)) for its in (whole.training, whole.tasks))
        stream = replace(whole, training=training, tasks=tasks)
        return joint(stream) if exp.cumul else stream

    return make


@pytest.fixture(scope="session")
def built() -> Callable[[Experiment, TaskStream], tuple[Engine, list[Method], torch.Generator]]:
    """The engine of an experiment, seeded as a run does it, its methods, and the generator of the
    data order."""

    def build(exp: Experiment, stream: TaskStream) -> tuple[Engine, list[Method], torch.Generator]:
        order = seed_everything(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        methods = make_methods(exp, stream)
        return make_engine(exp, model, stream, torch.device("cpu"), methods), methods, order

    return build


class Staged:
    """An engine and its methods, told of tasks and steps as a run tells them."""

    def __init__(
        self, exp: Experiment, stream: TaskStream, engine: Engine, methods: list[Method]
    ) -> None:
        self.stream, self.engine, self.methods = stream, engine, methods
        self.lengths = lengths(exp, stream)
        self.task, self.done = -1, 0

    def begin(self, task: int) -> None:
        self.task, self.done = task, 0
        for method in self.methods:
            method.begin_task(self.engine, task)

    def step(self, samples: Samples) -> None:
        length = self.lengths[self.task]
        batch = Batch.of(samples, self.stream.training[self.task].head)
        for method in self.methods:
            now = Moment(self.task, self.done, length.epoch, length.total)
            batch = method.before_step(self.engine, batch, now)
        losses = [method.loss for method in self.methods if type(method).loss is not Method.loss]
        logits = self.engine.step(batch, losses)
        for method in self.methods:
            method.after_step(self.engine, batch, logits)
        self.done += 1

    def end(self) -> None:
        for method in self.methods:
            method.end_task(self.engine, self.task)

    def train(self, task: int, size: int, pictures: int | None = None) -> None:
        """All of a task, once, from its begin to its end."""
        train = self.stream.training[task].train
        count = len(train) if pictures is None else pictures
        self.begin(task)
        self.engine.begin_epoch(-(-count // size))
        for start in range(0, count, size):
            self.step(train.take(slice(start, min(start + size, count))))
        self.end()

    def measured(self) -> dict[str, Any]:
        """What the methods have to say so far."""
        return {name: value for m in self.methods for name, value in m.result().items()}

    def named(self, name: str) -> Any:
        """The method of this name."""
        return next(method for method in self.methods if method.name == name)


@pytest.fixture(scope="session")
def staged(
    built: Callable[[Experiment, TaskStream], tuple[Engine, list[Method], torch.Generator]],
) -> Callable[[Experiment, TaskStream], Staged]:
    """The engine of an experiment with its methods, to be trained step by step."""

    def make(exp: Experiment, stream: TaskStream) -> Staged:
        engine, methods, _ = built(exp, stream)
        return Staged(exp, stream, engine, methods)

    return make


@pytest.fixture(scope="session")
def trained(
    built: Callable[[Experiment, TaskStream], tuple[Engine, list[Method], torch.Generator]],
) -> Callable[[Experiment, TaskStream], tuple[RunRecord, Engine]]:
    """A whole run of an experiment: what it recorded, and its engine."""

    def run(exp: Experiment, stream: TaskStream) -> tuple[RunRecord, Engine]:
        engine, methods, order = built(exp, stream)
        record = empty_record(exp, stream, engine.model)
        with Progress(len(stream.training), quiet=True) as progress:
            run_stream(exp, stream, engine, methods, order, record, progress)
        return record, engine

    return run


class Enough(Exception):
    """The run has come to where it is to be stopped."""


@pytest.fixture(scope="session")
def run_to(built: Callable) -> Callable[..., tuple[RunRecord, Engine, list[Method], Any]]:
    """A run to its end, or to a checkpoint in the last task after `stop` of its steps, or on from
    such a one (`tree`): its record, engine and methods, and the checkpoint, None at the end."""

    def run(
        exp: Experiment, stream: TaskStream, stop: int = -1, tree: Any = None
    ) -> tuple[RunRecord, Engine, list[Method], Any]:
        engine, methods, order = built(exp, stream)
        record = empty_record(exp, stream, engine.model)
        place = Place() if tree is None else checkpoint.put_back(tree, engine, methods, record)

        def keep(_: bool) -> None:
            if place.task < len(stream.training) and place.phase == TRAINING:
                done = place.epoch * record.lengths[place.task].epoch + place.step
                if (place.task, done) == (len(stream.training) - 1, stop):
                    raise Enough

        parts = exp, stream, engine, methods, order, record
        try:
            with Progress(len(stream.training), quiet=True) as progress:
                run_stream(*parts, progress, place, keep)
        except Enough:
            return record, engine, methods, checkpoint.take(engine, methods, record, place)
        return record, engine, methods, None

    return run


def accuracies(seed: int, tasks: int, lost: float, cumul: bool) -> np.ndarray:
    """Learned to 95 %, forgotten by `lost` with every task after that, and 10 % before."""
    noise = np.random.default_rng([seed, round(1e6 * lost)]).normal(0, 0.01, (tasks, tasks))
    behind = np.subtract.outer(np.arange(tasks), np.arange(tasks))
    accs = np.where(behind < 0, 0.1, 0.95 * np.exp(-lost * np.maximum(behind, 0)))
    accs = np.clip(accs + noise, 0, 1)
    return np.full((1, tasks), 0.97) + noise[:1] if cumul else accs


def make_stats(exp: Experiment, lost: float = 0.02) -> dict[str, Any]:
    """What a run of this experiment could have measured, with every key a result has."""
    rng, tasks, units = np.random.default_rng(exp.seed), exp.num_batch, exp.hidden_units
    trainings = 1 if exp.cumul else tasks
    epochs = exp.train_ep + (trainings - 1) * exp.train_ep_inc
    layers = exp.hidden_layers if exp.sparsify else 0
    share = exp.percent_on_fc if exp.sparsify else 0.2
    most = np.full(layers, units * 0.3)
    return {
        "accs": accuracies(exp.seed, tasks, lost, exp.cumul),
        "untrained": 0.1 + rng.normal(0, 0.005, tasks),
        "perc_on_avg": 100 * share * (1 + 0.3 * np.exp(-np.arange(epochs) / 3)),
        "perc_on_std": np.full(epochs, 0.1),
        "on_idxs": rng.geometric(0.01, (trainings, units)) * (rng.random(units) > 0.1),
        "loss": np.linspace(2, 0.3, epochs),
        "train_acc": np.linspace(0.3, 0.9, epochs),
        "weight_density": {"classifier": 1.0, "linear1": exp.weight_sparsity_fc},
        "entropy": np.outer(1 - 0.7 * np.exp(-np.arange(epochs) / 4 - 0.2), most),
        "max_entropy": most,
        "k_winner_layers": [f"kwinners{i + 1}" for i in range(layers)],
        "costs": [
            layer("linear1", 784 * units, units, exp.weight_sparsity_fc),
            layer("classifier", 10 * units, 10, 1.0),
        ],
        "elapsed": 12.5,
        "meta": {
            "seed": exp.seed,
            "code": "0" * 64,
            "version": "1.0.0",
            "started": "2026-11-22T11:00:00",
            "status": "complete",
        },
    }


def layer(name: str, weights: int, biases: int, density: float) -> dict[str, Any]:
    active = int(weights * density)
    return {
        "name": name,
        "kind": "Linear",
        "params": weights + biases,
        "active_params": active + biases,
        "macs": weights,
        "active_macs": active // 2,
    }


def cut_short(stats: dict[str, Any], done: int) -> dict[str, Any]:
    """The stats of a run that was interrupted after so many tasks."""
    accs = stats["accs"].copy()
    accs[done:] = np.nan
    meta = stats["meta"] | {"status": "interrupted"}
    return stats | {"accs": accs, "on_idxs": stats["on_idxs"][:done], "meta": meta}


def write_result(path: Path, config: Any, stats: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps([config, stats], protocol=4))
    return path


@pytest.fixture(scope="session")
def saver() -> Callable[[Path], Save]:
    """Makes a `save` for a folder; see there."""

    def make(folder: Path) -> Save:
        def write(
            name: str = "Sparse",
            lost: float = 0.02,
            change: Callable[[dict[str, Any]], dict[str, Any]] = lambda stats: stats,
            done: int | None = None,
            file: str = "",
            **keys: Any,
        ) -> Path:
            small = {"num_batch": 3, "hidden_units": 40, "percent_on_fc": 0.1}
            exp = Experiment(name=name, **{**small, **keys})
            number = len(list(folder.glob("*.pkl"))) if folder.exists() else 0
            path = folder / (file or f"r{number:03}_s{exp.seed}.pkl")
            stats = make_stats(exp, lost)
            if done is not None:
                stats = cut_short(stats, done)
            return write_result(path, as_dict(exp), change(stats))

        return write

    return make


@pytest.fixture
def save(tmp_path: Path, saver: Callable[[Path], Save]) -> Save:
    """Writes the result of an experiment with these keys into tmp_path / results; cut short after
    `done` tasks; `change` may change its stats.
    """
    return saver(tmp_path / "results")
