"""What listeners are told, and what each of them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from exps.messages import Told
from utils.engines.meter import EpochRecord


class LiveError(Told):
    """Nobody can be told."""


@dataclass(frozen=True)
class EpochDone:
    """An epoch has been trained.

    task, epoch: from 1, the epoch within the task; number: from 1, of all epochs of the run; loss,
    accuracy (0 to 1), active (percent, NaN if not recorded): as in `EpochRecord`; duty_cycles:
    float32 [units] of each k-winner layer by its name, none for epochs of an earlier process;
    entropy: theirs in bits.
    """

    task: int
    epoch: int
    number: int
    loss: float
    accuracy: float
    active: float
    entropy: dict[str, float]
    duty_cycles: dict[str, np.ndarray] = field(default_factory=dict)


def epoch_done(
    task: int, epoch: int, number: int, done: EpochRecord, layers: Sequence[str]
) -> EpochDone:
    """The moment with what was measured; task: from 0; layers: the names of the k-winner layers."""
    entropy = dict(zip(layers, done.entropy.tolist(), strict=True))
    return EpochDone(task + 1, epoch, number, done.loss, done.accuracy, done.active, entropy)


@dataclass(frozen=True)
class TaskTested:
    """All tests after a task are done.

    task, epoch, number: as in EpochDone, of the last epoch before; accs: float64 [trained, tested],
    0 to 1, NaN where nothing was tested (yet): the run's own, whose later rows may be filled since.
    """

    task: int
    epoch: int
    number: int
    accs: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """The accuracies on all tasks now [tested]."""
        row: np.ndarray = self.accs[self.task - 1]
        return row

    def matrix(self) -> np.ndarray:
        """A copy of accs as they were then."""
        accs = self.accs.copy()
        accs[self.task :] = np.nan
        return accs


@dataclass(frozen=True)
class WithinTested:
    """All tests within a task are done.

    task, epoch: from 1, the epoch that is trained; step: steps of the task; number: steps of the
    run; row: float64 [tested], 0 to 1, NaN where nothing was tested.
    """

    task: int
    epoch: int
    step: int
    number: int
    row: np.ndarray


Moment = EpochDone | TaskTested | WithinTested


class Audience(Protocol):
    """Those who are told of a run while it goes on."""

    def epoch(self, task: int, epoch: int, done: EpochRecord) -> None:
        """An epoch (its number within the task, from 1) of a task (from 0) has been trained."""

    def tested(self, task: int, epoch: int, accs: np.ndarray) -> None:
        """All tests after a task (from 0), of so many epochs, are done; accs [trained, tested]."""

    def within(self, task: int, epoch: int, step: int, steps: int, row: np.ndarray) -> None:
        """All tests after so many steps of a task (from 0), in its epoch (from 1), are done; steps:
        of the run; row [tested]."""


class Shown(Protocol):
    """What people see of a run: bars or lines."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Something with `total` steps begins."""

    def advance(self, count: int = 1) -> None:
        """So many more of them are done."""

    def detail(self, text: str, *, on_bars: str) -> None:
        """A line of detail: shown where there are no bars; these have `on_bars` instead."""

    def task_done(self, text: str) -> None:
        """A task has been trained and tested."""


class Silent:
    """Nobody looks on."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def detail(self, text: str, *, on_bars: str) -> None:
        """Nothing."""

    def task_done(self, text: str) -> None:
        """Nothing."""


class Listener(Protocol):
    """Somebody who is told. What cannot be written waits for the next `write`."""

    path: Path  # what is written, for people

    def begin(self, past: Sequence[Moment], resumed: Moment | None) -> None:
        """Take note of what has been before, if it is not known already.

        resumed: the last of these when it is what the run was interrupted right after.
        """

    def add(self, moment: Moment) -> None:
        """Take note of what has just been."""

    def write(self) -> None:
        """Write what has been noted and not been written. Raises OSError."""
