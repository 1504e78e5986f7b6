"""A run: train on one task after the other, test on all of them, keep everything measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Task, TaskStream
from exps.config import Experiment
from exps.messages import three_lines
from models.mlp import MLP
from utils.engine.base import Engine
from utils.evaluation import accuracy
from utils.live.live import Live
from utils.meter import EpochRecord
from utils.progress import Progress
from utils.sparsity import k_winner_layers, layer_costs, max_entropies, weight_density

NOT_KEPT = np.zeros(0, np.int64)  # a number a unit and epoch would fill the memory of a long run


class DivergedError(Exception):
    """The loss was not finite."""


@dataclass
class RunRecord:
    """Everything measured so far; complete or not, `stats()` is what a result holds.

    accs: [tasks trained, tasks tested], NaN where nothing was tested (yet); untrained: the same of
    the network before any training [tasks]; layers: the names of the k-winner activations; epochs:
    what each looked like, but how often units were on, which is added up by task in unit_on;
    context_right: for how large a part of the pictures the context was found, in the shape of accs,
    NaN without contexts; measured: see `Engine.measured`.
    """

    accs: np.ndarray
    untrained: np.ndarray
    layers: list[str]
    epochs: list[EpochRecord] = field(default_factory=list)
    unit_on: list[np.ndarray] = field(default_factory=list)  # per task, int64 [units]
    weight_density: dict[str, float] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)  # see `sparsity.LayerCost`
    max_entropy: list[float] = field(default_factory=list)  # of each k-winner activation
    context_right: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    measured: dict[str, np.ndarray] = field(default_factory=dict)
    elapsed: float = 0.0

    def entropy(self) -> np.ndarray:
        """float64 [epochs, layers], see `sparsity.entropies`."""
        bits = [e.entropy for e in self.epochs]
        return np.array(bits, np.float64).reshape(len(bits), len(self.layers))

    def stats(self) -> dict[str, object]:
        """Plain Python and numpy, under the names of the 2019 results where they had one."""
        unit_on = np.array(self.unit_on)
        if self.epochs and np.isnan(self.epochs[0].active):  # record_stats = false
            unit_on = np.zeros((len(self.unit_on), 0), np.int64)
        return {
            "accs": self.accs,
            "untrained": self.untrained,
            "perc_on_avg": np.array([e.active for e in self.epochs]),
            "perc_on_std": np.array([e.active_std for e in self.epochs]),
            "on_idxs": unit_on,
            "loss": np.array([e.loss for e in self.epochs]),
            "train_acc": np.array([e.accuracy for e in self.epochs]),
            "k_winner_layers": self.layers,
            "entropy": self.entropy(),
            "max_entropy": np.array(self.max_entropy),
            "weight_density": self.weight_density,
            "costs": self.costs,
            "elapsed": self.elapsed,
            **({} if np.isnan(self.context_right).all() else {"context_right": self.context_right}),
            **self.measured,
        }


def empty_record(stream: TaskStream, model: MLP) -> RunRecord:
    """The record of a run that has not begun."""
    tasks = len(stream.tasks)
    accs = np.full((len(stream.training), tasks), np.nan)
    layers = [name for name, _ in k_winner_layers(model)]
    return RunRecord(accs, np.full(tasks, np.nan), layers, context_right=accs.copy())


@dataclass
class Place:
    """Where in a run training is: so many tasks are done, so many epochs of the task after them,
    and so many steps of the epoch after those; all epochs of a task: it is being tested.

    order: uint8, the state of the order's generator before the shuffle of that epoch (None: as the
    generator is); unit_on: int64 [units], in how many samples of the task each unit was on.
    """

    task: int = 0
    epoch: int = 0
    step: int = 0
    order: Tensor | None = None
    unit_on: np.ndarray | None = None

    @property
    def begun(self) -> bool:
        """Whether a step has been taken."""
        return bool(self.task or self.epoch or self.step)


def tests_untrained(exp: Experiment) -> bool:
    """Whether the untrained network is tested: where tasks are tested before they are trained."""
    return exp.eval_tasks == "all" and not exp.cumul


def _keep_nothing(_: bool) -> None:
    pass


def run_stream(
    exp: Experiment,
    stream: TaskStream,
    engine: Engine,
    order: torch.Generator,
    record: RunRecord,
    progress: Progress,
    place: Place | None = None,
    keep: Callable[[bool], None] = _keep_nothing,
    live: Live | None = None,
) -> None:
    """Train on each task of the stream in turn and test after each, filling `record` as it goes.

    `order` gives every epoch a fresh shuffle. `place` is where to begin, and moves along. `keep`
    is called after every step and every batch tested, with True when a task is done: it may write
    a checkpoint, or raise. `live` tells others what is done. Raises DivergedError when a loss is
    not finite; whatever ends the run early, `record` holds what was measured until then.
    """
    exp, before, began = exp.in_effect, record.elapsed, time.perf_counter()

    def note(done: bool) -> None:
        record.elapsed = before + time.perf_counter() - began
        keep(done)

    run = _Run(exp, stream, engine, order, record, progress, place or Place(), note, live or Live())
    try:
        run.go_on()
    finally:
        record.elapsed = before + time.perf_counter() - began


@dataclass
class _Run:
    """What the parts of a run share."""

    exp: Experiment
    stream: TaskStream
    engine: Engine
    order: torch.Generator
    record: RunRecord
    progress: Progress
    place: Place
    note: Callable[[bool], None]
    live: Live

    def go_on(self) -> None:
        place, count = self.place, len(self.stream.training)
        if place.order is None:
            place.order = self.order.get_state()
        if not place.begun:
            self._test_untrained()
        while place.task < count:
            task, where = self.stream.training[place.task], f"task {place.task + 1}/{count}"
            if place.unit_on is None:
                place.unit_on = np.zeros(self.engine.units, np.int64)
            epochs = self.exp.epochs_of(place.task)
            while place.epoch < epochs:
                self._train_epoch(task, f"{where}, epoch {place.epoch + 1}/{epochs}")
            self.record.unit_on[place.task :] = [place.unit_on]
            self._count()
            self._test(where)
            self.progress.task_done(f"{where} ({task.name}): {_summary(self.record, place.task)}")
            self.live.tested(place.task, place.epoch, self.record.accs)
            place.task, place.epoch, place.unit_on = place.task + 1, 0, None
            self.note(place.task < count)  # after the last the result is written at once

    def _train_epoch(self, task: Task, label: str) -> None:
        place = self.place
        assert place.order is not None and place.unit_on is not None
        self.order.set_state(place.order)
        shuffled = torch.randperm(len(task.train), generator=self.order)
        samples = task.train.take(shuffled.to(task.train.rows.device))
        starts = range(0, len(samples), self.exp.mb_size)
        self.progress.begin(label, len(starts), "step")
        self.progress.advance(place.step)
        if place.step == 0:
            self.engine.begin_epoch(len(starts))
        for start in starts[place.step :]:  # the last mini-batch may be short
            self.engine.step(samples.take(slice(start, start + self.exp.mb_size)), task.head)
            self.progress.advance()
            place.step += 1
            self.note(False)
        done = self.engine.end_epoch()
        if done.bad_step is not None:
            raise DivergedError(
                three_lines(
                    f"{label}, step {done.bad_step + 1}: the loss is not finite",
                    "training diverged: the weights grew without bound",
                    f"try a lower learning rate (lr = {self.exp.lr:g})",
                )
            )
        self.record.epochs.append(replace(done, unit_on=NOT_KEPT))
        place.epoch, place.step, place.order = place.epoch + 1, 0, self.order.get_state()
        place.unit_on += done.unit_on
        loss = f"loss {done.loss:.4g}"
        text = f"{loss}, training accuracy {100 * done.accuracy:.1f} %"
        self.progress.detail(f"{label}: {text}", on_bars=loss)
        self.live.epoch(place.task, place.epoch, done)

    def _test(self, where: str) -> None:
        """Fill in the accuracy on every task; NaN stays for those not to be tested yet."""
        done, tasks = self.place.task, self.stream.tasks
        if self.exp.eval_tasks == "seen" and not self.exp.cumul:
            tasks = tasks[: done + 1]
        self._fill(self.record.accs[done], self.record.context_right[done], tasks, where)
        self.record.measured = self.engine.measured(done)

    def _test_untrained(self) -> None:
        """What forward transfer is measured against."""
        if tests_untrained(self.exp):
            row = self.record.untrained
            self._fill(row, np.full_like(row, np.nan), self.stream.tasks, "before training")

    def _fill(
        self, row: np.ndarray, context_right: np.ndarray, tasks: Sequence[Task], where: str
    ) -> None:
        """Test on these tasks."""

        def seen(pictures: int) -> None:
            self.progress.advance(pictures)
            self.note(False)

        self.progress.begin(f"{where}, testing", sum(len(t.test) for t in tasks), "picture")
        for i, task in enumerate(tasks):
            if np.isnan(row[i]):  # otherwise it was tested before the run was interrupted
                row[i], context_right[i] = accuracy(self.engine, task, i, seen)

    def _count(self) -> None:
        """Count what the model has and costs now."""
        model, record = self.engine.model, self.record
        record.weight_density = weight_density(model)
        record.costs = [asdict(cost) for cost in layer_costs(model, self.stream.input_shape)]
        record.max_entropy = max_entropies(model).tolist()


def _summary(record: RunRecord, done: int) -> str:
    row = record.accs[done]
    trained = row if len(record.accs) == 1 else row[: done + 1]
    now = f"accuracy on it {100 * row[done]:.1f} %, " if len(record.accs) > 1 else ""
    return f"{now}mean over the {len(trained)} task(s) seen {100 * trained.mean():.1f} %"
