"""What a run that is gone on with has done before, from its record."""

from __future__ import annotations

from exps.config import Experiment
from utils.live.base import Moment, TaskTested, epoch_done
from utils.training import Place, RunRecord


def past(exp: Experiment, record: RunRecord, place: Place) -> list[Moment]:
    """Every epoch and every task tested before this place, in order."""
    moments: list[Moment] = []
    number = 0
    for task in range(min(place.task + 1, len(record.accs))):
        done = task < place.task
        epochs = exp.epochs_of(task) if done else place.epoch
        for epoch in range(1, epochs + 1):
            e = record.epochs[number]
            number += 1
            moments.append(epoch_done(task, epoch, number, e, record.layers))
        if done:
            moments.append(TaskTested(task + 1, epochs, number, record.accs))
    return moments


def before_tests(exp: Experiment, record: RunRecord, place: Place) -> bool:
    """Whether the tests after a task's last epoch come next."""
    return place.task < len(record.accs) and 0 < place.epoch == exp.epochs_of(place.task)
