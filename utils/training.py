"""A run: train on one task after the other, test on all of them, keep everything measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.stream import Task, TaskStream
from exps.config import Experiment
from utils.engine.base import Engine
from utils.evaluation import accuracies
from utils.meter import EpochRecord
from utils.progress import Progress
from utils.sparsity import weight_density


class DivergedError(Exception):
    """The loss was not finite."""


@dataclass
class RunRecord:
    """Everything measured so far; complete or not, `stats()` is what a result holds.

    accs: [tasks trained, tasks tested], NaN where nothing was tested (yet).
    """

    accs: np.ndarray
    epochs: list[EpochRecord] = field(default_factory=list)
    unit_on: list[np.ndarray] = field(default_factory=list)  # per task, int64 [units]
    weight_density: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    def stats(self) -> dict[str, object]:
        """Plain Python and numpy, under the names of the 2019 results where they had one."""
        unit_on = np.array(self.unit_on)
        if self.epochs and np.isnan(self.epochs[0].active):  # record_stats = false
            unit_on = np.zeros((len(self.unit_on), 0), np.int64)
        return {
            "accs": self.accs,
            "perc_on_avg": np.array([e.active for e in self.epochs]),
            "perc_on_std": np.array([e.active_std for e in self.epochs]),
            "on_idxs": unit_on,
            "loss": np.array([e.loss for e in self.epochs]),
            "train_acc": np.array([e.accuracy for e in self.epochs]),
            "weight_density": self.weight_density,
            "elapsed": self.elapsed,
        }


def empty_record(stream: TaskStream) -> RunRecord:
    """The record of a run that has not begun."""
    return RunRecord(np.full((len(stream.training), len(stream.tasks)), np.nan))


def run_stream(
    exp: Experiment,
    stream: TaskStream,
    engine: Engine,
    order: torch.Generator,
    record: RunRecord,
    progress: Progress,
) -> None:
    """Train on each task of the stream in turn and test after each, filling `record` as it goes.

    `order` gives every epoch a fresh shuffle. Raises DivergedError when a loss is not finite;
    whatever ends the run early, `record` holds what was measured until then.
    """
    began = time.perf_counter()
    try:
        for i, task in enumerate(stream.training):
            epochs = exp.train_ep if i == 0 else exp.train_ep_inc
            where = f"task {i + 1}/{len(stream.training)}"
            unit_on = np.zeros(engine.model.units, np.int64)
            for epoch in range(epochs):
                label = f"{where}, epoch {epoch + 1}/{epochs}"
                trained = _train_epoch(exp, task, engine, order, progress, label)
                record.epochs.append(trained)
                unit_on += trained.unit_on
            record.unit_on.append(unit_on)
            record.weight_density = weight_density(engine.model)
            record.accs[i] = _test(exp, stream, engine, i, progress, where)
            progress.task_done(f"{where} ({task.name}): {_summary(record, i)}")
    finally:
        record.elapsed += time.perf_counter() - began


def _train_epoch(
    exp: Experiment,
    task: Task,
    engine: Engine,
    order: torch.Generator,
    progress: Progress,
    label: str,
) -> EpochRecord:
    shuffled = torch.randperm(len(task.train), generator=order).to(task.train.rows.device)
    samples = task.train.take(shuffled)
    starts = range(0, len(samples), exp.mb_size)
    progress.begin(label, len(starts), "step")
    engine.begin_epoch(len(starts))
    for start in starts:  # the last mini-batch may be short
        engine.step(samples.take(slice(start, start + exp.mb_size)), task.head)
        progress.advance()
    done = engine.end_epoch()
    if done.bad_step is not None:
        raise DivergedError(
            f"{label}, step {done.bad_step + 1}: the loss is not finite;"
            f" a lower learning rate may help (lr = {exp.lr:g})"
        )
    progress.detail(f"{label}: loss {done.loss:.4g}, training accuracy {100 * done.accuracy:.1f} %")
    return done


def _test(
    exp: Experiment, stream: TaskStream, engine: Engine, done: int, progress: Progress, where: str
) -> np.ndarray:
    """The accuracy on every task; NaN for those that are not to be tested yet."""
    seen = done + 1 if exp.eval_tasks == "seen" and not exp.cumul else len(stream.tasks)
    tasks = stream.tasks[:seen]
    progress.begin(f"{where}, testing", sum(len(t.test) for t in tasks), "picture")
    row = np.full(len(stream.tasks), np.nan)
    row[:seen] = accuracies(engine, tasks, progress.advance)
    return row


def _summary(record: RunRecord, done: int) -> str:
    row = record.accs[done]
    trained = row if len(record.accs) == 1 else row[: done + 1]
    now = f"accuracy on it {100 * row[done]:.1f} %, " if len(record.accs) > 1 else ""
    return f"{now}mean over the {len(trained)} task(s) seen {100 * trained.mean():.1f} %"
