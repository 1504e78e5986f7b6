"""The tests of a run: of the untrained network, after every task, and while tasks are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Task, TaskStream
from exps.config import Experiment
from exps.messages import Told
from utils.engines.base import Engine
from utils.methods.base import Method, Scores
from utils.methods.make import scores_of
from utils.training.evaluation import Looked, Tested, accuracy, some_of
from utils.training.listener import Shown
from utils.training.record import RunRecord
from utils.training.recorded import Answers, Kept


class DivergedError(Told):
    """The loss, or what became of it, was not finite."""


def tests_untrained(exp: Experiment) -> bool:
    """Whether the untrained network is tested: where tasks are tested before they are trained."""
    return exp.eval_tasks == "all" and not exp.cumul


def tested(exp: Experiment, tasks: tuple[Task, ...], done: int) -> tuple[Task, ...]:
    """The tasks that are tested while task `done` (from 0) is trained, and after it."""
    return tasks[: done + 1] if exp.eval_tasks == "seen" and not exp.cumul else tasks


def own_outputs(stream: TaskStream, device: torch.device) -> list[Tensor]:
    """Those of the classes of each task, int64 [classes], where tasks share a head in which they
    have outputs of their own; [] in other scenarios."""
    if stream.scenario != "class":
        return []
    return [row[row >= 0].unique().to(device) for row in stream.targets[: len(stream.tasks)]]


class Rows(NamedTuple):
    """Where what is found of each task goes, [tasks] each: see `Tested`."""

    accs: np.ndarray
    given: np.ndarray
    context_right: np.ndarray

    @classmethod
    def of(cls, accs: np.ndarray) -> Rows:
        """For the accuracy alone."""
        return cls(accs, np.empty_like(accs), np.empty_like(accs))


def tested_as(stream: TaskStream, done: int, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks by the rule of tests after (or in) this task of the training: where only the
    outputs of the classes so far count, among these."""
    among = stream.training[done].among
    if among is None:
        return tuple(tasks)
    return tuple(replace(task, outputs=tuple(range(among))) for task in tasks)


def _of_fixed(scores: Scores, engine: Engine) -> Scores:
    """The same, of features that do not change any more: they are computed once."""
    looked = cast(Engine, Looked(engine))
    return lambda _, samples, head: scores(looked, samples, head)


@dataclass
class Examiner:
    """Fills in the record; `note` is called after every batch."""

    exp: Experiment
    stream: TaskStream
    engine: Engine
    methods: Sequence[Method]
    record: RunRecord
    progress: Shown
    note: Callable[[bool], None]

    def __post_init__(self) -> None:
        self.scores = scores_of(self.methods)
        if self.scores is not None and self.exp.learning != "trained":
            # `first`: these are asked for when the first task has been trained.
            self.scores = _of_fixed(self.scores, self.engine)
        self.own = own_outputs(self.stream, self.engine.device)
        self.few = some_of(self.stream, self.exp.eval_pictures)

    def untrained(self, first: int) -> None:
        """What forward transfer is measured against; first: the task that the run begins with,
        behind those of another run: the tasks of which that one knew nothing."""
        if first:
            self._after(first - 1, "before training", keep=False)
            self.record.curve.begin_behind(self.record.accs[:first])
        elif tests_untrained(self.exp):
            self._fill(Rows.of(self.record.untrained), self.stream.tasks, "before training")

    def after(self, done: int, where: str) -> None:
        """Those after task `done`; NaN stays for tasks that are not to be tested yet."""
        self._after(done, where)
        self.record.curve.end_task(self.record.accs[done])

    def _after(self, done: int, where: str, *, keep: bool = True) -> None:
        """keep: what `record` asks for, of which there is none of some tasks or of all."""
        record, kept = self.record, self.record.kept if keep else Kept()
        rows = Rows(*(part[done] for part in (record.accs, record.given, record.context_right)))
        self._fill(rows, self._tasks(self.stream.tasks, done), where, done, kept)

    def within(self, task: int, step: int, where: str) -> np.ndarray | None:
        """Those after so many steps of a task, by the logits of the network alone; the accuracies,
        None where there are none to be tested then."""
        row = self.record.curve.due(task, step)
        if row is not None:
            self._fill(Rows.of(row), self._tasks(self.few, task), f"{where}, step {step}")
            self.record.curve.done += 1
        return row

    def _tasks(self, tasks: tuple[Task, ...], done: int) -> Sequence[Task]:
        return tested_as(self.stream, done, tested(self.exp, tasks, done))

    def _fill(
        self,
        rows: Rows,
        tasks: Sequence[Task],
        where: str,
        done: int | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Test on these tasks; done: the task that has been trained, if they are those after it,
        and kept: where the answers go then."""

        def seen(pictures: int) -> None:
            self.progress.advance(pictures)
            self.note(False)

        self.progress.begin(f"{where}, testing", sum(len(t.test) for t in tasks), "picture")
        for i, task in enumerate(tasks):
            if np.isnan(rows.accs[i]):  # otherwise it was tested before the run was interrupted
                rows.accs[i], rows.given[i], rows.context_right[i] = (
                    accuracy(self.engine, task, i, seen)
                    if done is None or kept is None
                    else self._test_after(done, i, task, seen, kept)
                )
                if np.isnan(rows.accs[i]):
                    raise DivergedError(
                        f"{where}, testing {task.name}: the logits are not finite",
                        "training diverged in its last steps: the weights grew without bound",
                        f"try a lower learning rate (lr = {self.exp.lr:g})",
                    )

    def _test_after(
        self, done: int, i: int, task: Task, seen: Callable[[int], None], kept: Kept
    ) -> Tested:
        """With all that is asked of the tests after a task."""
        answers = Answers()
        own = self.own[i] if self.own else None
        asked = answers if kept.parts else None
        found = accuracy(self.engine, task, i, seen, self.scores, own, asked)
        if asked:  # only now, that a run which is interrupted meanwhile counts it once
            kept.add(done, i, task, asked)
        return found
