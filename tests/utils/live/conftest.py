"""Moments that the tests of listeners share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from utils.training.listener import EpochDone, Moment, TaskTested

NAN = float("nan")
DUTY = {"hidden": np.array([0.0, 0.1, 0.3], np.float32)}


def moments_of(tasks: int, epochs: int) -> list[Moment]:
    found: list[Moment] = []
    accs = np.full((tasks, tasks), NAN)
    for task in range(1, tasks + 1):
        for epoch in range(1, epochs + 1):
            number = (task - 1) * epochs + epoch
            loss = 1 / number
            found.append(EpochDone(task, epoch, number, loss, 0.5, 4.0, {"hidden": 1.5}, DUTY))
        accs[task - 1] = np.arange(tasks) / 10 + task / 100
        found.append(TaskTested(task, epochs, number, accs.copy()))
    return found


@pytest.fixture
def moments() -> Callable[[int, int], list[Moment]]:
    """Those of a run of so many tasks with so many epochs each; one k-winner layer, `hidden`."""
    return moments_of
