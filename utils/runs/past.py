"""What a run that is gone on with has done before, from its record."""

from __future__ import annotations

from utils.training.listener import Moment, TaskTested, epoch_done
from utils.training.record import TESTING, Place, RunRecord


def past(record: RunRecord, place: Place) -> tuple[list[Moment], bool]:
    """Every epoch and every task tested before this place, in order, and whether the tests after a
    task's last epoch come next."""
    moments: list[Moment] = []
    number = 0
    for task in range(place.first, min(place.task + 1, len(record.accs))):
        done = task < place.task
        epochs = record.lengths[task].epochs if done else place.epoch
        for epoch in range(1, epochs + 1):
            e = record.epochs[number]
            number += 1
            moments.append(epoch_done(task, epoch, number, e, record.layers))
        if done:
            moments.append(TaskTested(task + 1, epochs, number, record.accs))
    return moments, place.phase == TESTING and place.epoch > 0
