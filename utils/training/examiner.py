"""The tests of a run: of the untrained network, after every task, and while tasks are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.stream import Task, TaskStream
from exps.config import Experiment
from utils.engines.base import Engine
from utils.methods.base import Method, Scores
from utils.methods.make import scores_of
from utils.training.evaluation import accuracy, some_of
from utils.training.listener import Shown
from utils.training.record import RunRecord


def tests_untrained(exp: Experiment) -> bool:
    """Whether the untrained network is tested: where tasks are tested before they are trained."""
    return exp.eval_tasks == "all" and not exp.cumul


def tested(exp: Experiment, tasks: tuple[Task, ...], done: int) -> tuple[Task, ...]:
    """The tasks that are tested while task `done` (from 0) is trained, and after it."""
    return tasks[: done + 1] if exp.eval_tasks == "seen" and not exp.cumul else tasks


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
        self.few = some_of(self.stream, self.exp.eval_pictures)

    def untrained(self) -> None:
        """What forward transfer is measured against."""
        if tests_untrained(self.exp):
            row = self.record.untrained
            self._fill(row, np.full_like(row, np.nan), self.stream.tasks, "before training")

    def after(self, done: int, where: str) -> None:
        """Those after task `done`; NaN stays for tasks that are not to be tested yet."""
        accs, found = self.record.accs[done], self.record.context_right[done]
        self._fill(accs, found, self._tasks(self.stream.tasks, done), where, self.scores)
        self.record.curve.end_task(accs)

    def within(self, task: int, step: int, where: str) -> np.ndarray | None:
        """Those after so many steps of a task, by the logits of the network alone; the accuracies,
        None where there are none to be tested then."""
        row = self.record.curve.due(task, step)
        if row is not None:
            tasks = self._tasks(self.few, task)
            self._fill(row, np.full_like(row, np.nan), tasks, f"{where}, step {step}")
            self.record.curve.done += 1
        return row

    def _tasks(self, tasks: tuple[Task, ...], done: int) -> Sequence[Task]:
        """With the outputs among which a prediction is chosen then."""
        among = self.stream.training[done].among
        chosen = tested(self.exp, tasks, done)
        if among is None:
            return chosen
        return [replace(task, outputs=tuple(range(among))) for task in chosen]

    def _fill(
        self,
        row: np.ndarray,
        context_right: np.ndarray,
        tasks: Sequence[Task],
        where: str,
        scores: Scores | None = None,
    ) -> None:
        """Test on these tasks."""

        def seen(pictures: int) -> None:
            self.progress.advance(pictures)
            self.note(False)

        self.progress.begin(f"{where}, testing", sum(len(t.test) for t in tasks), "picture")
        for i, task in enumerate(tasks):
            if np.isnan(row[i]):  # otherwise it was tested before the run was interrupted
                row[i], context_right[i] = accuracy(self.engine, task, i, seen, scores)
