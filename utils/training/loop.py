"""A run: train on one task after the other, test on all of them, keep everything measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from benchmarks.stream import Samples, Task, TaskStream
from exps.config import Experiment
from exps.messages import Told
from models.costs import layer_costs, max_entropies, weight_density
from utils.engines.base import Ahead, Engine, Need
from utils.engines.batch import Batch, Part
from utils.methods.base import Method, Moment, draws
from utils.training import state
from utils.training.evaluation import watched_accuracy
from utils.training.examiner import DivergedError, Examiner
from utils.training.listener import Audience, Shown
from utils.training.record import BEFORE, NOT_KEPT, TESTING, TRAINING, Length, Place, RunRecord
from utils.training.schedule import is_constant, share

DRAW = 10  # sets the draws of what networks look at apart from whatever else the seed draws
READ = 1000  # pictures that methods read at a time: enough for products of matrices


def keep_nothing(_: bool) -> None:
    """Of `run_stream`: no checkpoints."""


def run_stream(
    exp: Experiment,
    stream: TaskStream,
    engine: Engine,
    methods: Sequence[Method],
    order: torch.Generator,
    record: RunRecord,
    progress: Shown,
    place: Place | None = None,
    keep: Callable[[bool], None] = keep_nothing,
    live: Audience | None = None,
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

    run = _Run(
        exp,
        stream,
        engine,
        methods,
        order,
        record,
        progress,
        place or Place(),
        note,
        live,
    )
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
    methods: Sequence[Method]
    order: torch.Generator
    record: RunRecord
    progress: Shown
    place: Place
    note: Callable[[bool], None]
    live: Audience | None

    def go_on(self) -> None:
        place, count = self.place, len(self.stream.training)
        # A loss that does nothing costs nothing: engines are faster without any.
        self.losses = [m.loss for m in self.methods if type(m).loss is not Method.loss]
        parts = self.exp, self.stream, self.engine, self.methods, self.record, self.progress
        self.tests = Examiner(*parts, self.note)
        # A method looks at every step.
        self.ahead = self.engine if isinstance(self.engine, Ahead) and not self.methods else None
        if place.order is None:
            place.order = self.order.get_state()
        if not place.begun:
            self.tests.untrained(place.first)
        while place.task < count:
            task, where = self.stream.training[place.task], f"task {place.task + 1}/{count}"
            if place.phase == BEFORE:
                self._begin()
            length = self.record.lengths[place.task]
            # With patience, until that many epochs in a row have brought nothing.
            while place.epoch < length.epochs and not 0 < self.exp.patience <= place.since:
                self._train_epoch(task, length, f"{where}, epoch {place.epoch + 1}/{length.epochs}")
                if task.watched is not None:
                    self._watch(task)
            if place.phase == TRAINING:
                self._settle()
                self._read(task, where)
                self._end()
            self.tests.after(place.task, where)
            self.progress.task_done(
                f"{where} ({task.name}): {self._ended()}{_summary(self.record, place.task)}"
            )
            if self.live is not None:
                self.live.tested(place.task, place.epoch, self.record.accs)
            place.task, place.epoch, place.read, place.unit_on = place.task + 1, 0, 0, None
            place.accuracy, place.best, place.since = 0.0, None, 0
            place.phase = BEFORE
            self.note(place.task < count)  # after the last the result is written at once

    def _begin(self) -> None:
        """The task begins: for the methods, and for the optimiser if it is to."""
        place = self.place
        place.unit_on = np.zeros(self.engine.units, np.int64)
        if place.task and self.exp.reset_optimizer == "task":
            self.engine.restart()
        self.engine.begin_task()
        with self._training():
            if not place.task and self.exp.begin_with == "none":
                self._look()
            for method in self.methods:
                method.begin_task(self.engine, place.task)
        if not self.record.lengths[place.task].total:
            self.engine.begin_epoch(0)  # so that a checkpoint has its counts
        place.phase = TRAINING

    def _look(self) -> None:
        """Let the network look at pictures of the first task, if it does."""
        model, train = self.engine.model, self.stream.training[0].train
        if model.looks:
            generator = draws(DRAW, self.exp.seed)
            rows = torch.randperm(len(train), generator=generator)[: model.looks]
            samples = train.take(rows.to(train.rows.device))
            x = self.stream.inputs(self.stream.train, samples)
            model.look(x.to(self.engine.device), generator)

    def _settle(self) -> None:
        """Go back to the best epoch of the task, where pictures were watched."""
        place = self.place
        if place.best is None:
            return
        self.record.best[place.task] = place.epoch - place.since
        if place.since:
            with self._training():
                state.put_back(place.best, self.engine, self.methods, resume=True)
            place.order = torch.as_tensor(place.best["order"])
        place.best = None

    def _read(self, task: Task, where: str) -> None:
        """Show the pictures of the task once more to the methods that read them."""
        place, total = self.place, len(task.train)
        readers = [m for m in self.methods if type(m).read is not Method.read]
        if not readers:
            return
        self.progress.begin(f"{where}, reading", total, "picture")
        self.progress.advance(place.read)
        while place.read < total:
            some = task.train.take(slice(place.read, place.read + READ))
            with self._training():
                for method in readers:
                    method.read(self.engine, some, place.task)
            place.read += len(some)
            self.progress.advance(len(some))
            self.note(False)

    def _end(self) -> None:
        """The task has been trained: for the methods, and for what is counted once a task."""
        place, record = self.place, self.record
        assert place.unit_on is not None
        record.trained[place.task] = place.epoch
        record.unit_on[place.task :] = [place.unit_on]
        self._count()
        with self._training():
            for method in self.methods:
                method.end_task(self.engine, place.task)
        record.measured, record.method_costs = {}, {}
        for method in self.methods:
            record.add_measured(method.name, method.result())
            record.add_costs(method.name, method.costs(self.engine))
        place.phase = TESTING

    def _train_epoch(self, task: Task, length: Length, label: str) -> None:
        place, size = self.place, self.exp.mb_size
        assert place.order is not None and place.unit_on is not None
        self.order.set_state(place.order)
        shuffled = torch.randperm(len(task.train), generator=self.order)
        samples = task.train.take(shuffled.to(task.train.rows.device))
        steps, before = length.steps_of(place.epoch), place.epoch * length.epoch
        if place.step == 0:
            self.engine.begin_epoch(steps)
        else:
            self._test(before, label)  # where it was interrupted
        self._show(label, steps)
        while place.step < steps:  # the last mini-batch may be short
            ahead = self.record.curve.ahead(place.task, before + place.step)
            count = min(self.ahead.at_once if self.ahead else 1, steps - place.step, ahead)
            with self._training():
                some = samples.take(slice(place.step * size, (place.step + count) * size))
                self._steps(some, task, length)
            self.record.steps += count
            self.progress.advance(count)
            place.step += count
            self.note(False)
            if self._test(before, label):
                self._show(label, steps)
        with self._training():  # a GPU may have steps to do yet
            done = self.engine.end_epoch()
        if done.bad_step is not None:
            raise DivergedError(
                f"{label}, step {done.bad_step + 1}: the loss is not finite",
                "training diverged: the weights grew without bound",
                f"try a lower learning rate (lr = {self.exp.lr:g})"
                + "".join(f", or less of what {m.name} adds" for m in self._adding()),
            )
        self.record.epochs.append(replace(done, unit_on=NOT_KEPT))
        place.epoch, place.step, place.order = place.epoch + 1, 0, self.order.get_state()
        place.unit_on += done.unit_on
        loss = f"loss {done.loss:.4g}"
        text = f"{loss}, training accuracy {100 * done.accuracy:.1f} %"
        self.progress.detail(f"{label}: {text}", on_bars=loss)
        if self.live is not None:
            self.live.epoch(place.task, place.epoch, done)

    def _watch(self, task: Task) -> None:
        """After an epoch: keep its state if it is the best of the task until now. Methods are a
        part of it: they end the task as if that epoch had been the last."""
        place, accuracy = self.place, watched_accuracy(self.engine, task)
        text = f"{100 * accuracy:.1f} %"
        self.progress.detail(f"accuracy on watched pictures {text}", on_bars=f"watched {text}")
        if place.best is None or accuracy > place.accuracy:
            with self._training():
                self.engine.begin_epoch(0)
                place.best = state.take(self.engine, self.methods) | {"order": place.order}
            place.accuracy, place.since = accuracy, 0
        else:
            place.since += 1

    def _ended(self) -> str:
        """How training has ended where pictures are watched."""
        trained, best = (
            int(its[self.place.task]) for its in (self.record.trained, self.record.best)
        )
        return f"the network after epoch {best} of {trained}, " if best else ""

    def _show(self, label: str, steps: int) -> None:
        """So many steps, from where training is."""
        self.progress.begin(label, steps, "step")
        self.progress.advance(self.place.step)

    def _test(self, before: int, label: str) -> bool:
        """Test after this step, if it is time; before: steps of the task in earlier epochs."""
        place, step = self.place, before + self.place.step
        row = self.tests.within(place.task, step, label)
        if row is not None and self.live is not None:
            steps = sum(length.total for length in self.record.lengths[: place.task]) + step
            self.live.within(place.task, place.epoch + 1, step, steps, row)
        return row is not None

    @contextmanager
    def _training(self) -> Iterator[None]:
        """What is done inside counts as training: no tests, and no checkpoints."""
        began = time.perf_counter()
        yield
        self.record.train_seconds += time.perf_counter() - began

    def _adding(self) -> list[Method]:
        """The methods that add to the loss or to its gradient."""
        return [m for m in self.methods if m.loss in self.losses or Need.PULL in m.needs]

    def _steps(self, samples: Samples, task: Task, length: Length) -> None:
        """One step, or as many as the engine takes at a time."""
        if self.ahead is not None:
            self.ahead.take_steps(samples, task.head, task.among)
            return
        place = self.place
        step = place.epoch * length.epoch + place.step
        if not is_constant(self.exp):
            self.engine.rate(share(self.exp, self.record.lengths, place.task, step))
        batch = Batch((Part(samples, task.head, outputs=task.among),))
        now = Moment(place.task, step, length.epoch, length.total)
        for method in self.methods:
            batch = method.before_step(self.engine, batch, now)
            if not isinstance(batch, Batch):
                raise Told(f"methods = {method.name}: before_step has to return the Batch")
        logits = self.engine.step(batch, self.losses)
        for method in self.methods:
            method.after_step(self.engine, batch, logits)

    def _count(self) -> None:
        """Count what the model has and costs now."""
        record = self.record
        if self.ahead is not None and record.costs:
            return  # no method changes that, and the weights may have far to come
        model = self.engine.model
        record.weight_density = weight_density(model)
        costs = layer_costs(model, self.stream.input_shape, self.engine.active)
        record.costs = [asdict(cost) for cost in costs]
        record.max_entropy = max_entropies(model).tolist()


def _summary(record: RunRecord, done: int) -> str:
    row = record.accs[done]
    trained = row if len(record.accs) == 1 else row[: done + 1]
    now = f"accuracy on it {100 * row[done]:.1f} %, " if len(record.accs) > 1 else ""
    return f"{now}mean over the {len(trained)} task(s) seen {100 * trained.mean():.1f} %"
