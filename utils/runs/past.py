"""What a run that is gone on with has done before, from its record."""

from __future__ import annotations

from utils.training.listener import EpochDone, Moment, TaskTested, WithinTested, epoch_done
from utils.training.record import TESTING, Place, RunRecord

ORDER = (WithinTested, EpochDone, TaskTested)  # of what belongs to the same epoch


def past(record: RunRecord, place: Place) -> tuple[list[Moment], bool]:
    """Every epoch and all tests before this place, in order, and whether the tests after a task's
    last epoch come next."""
    moments: list[Moment] = _within(record, place.first)
    number = 0
    for task in range(place.first, min(place.task + 1, len(record.accs))):
        done = task < place.task
        epochs = int(record.trained[task]) if done else place.epoch
        for epoch in range(1, epochs + 1):
            e = record.epochs[number]
            number += 1
            moments.append(epoch_done(task, epoch, number, e, record.layers))
        if done:
            moments.append(TaskTested(task + 1, epochs, number, record.accs))
    moments.sort(key=lambda moment: (moment.task, moment.epoch, ORDER.index(type(moment))))
    return moments, place.phase == TESTING and place.epoch > 0


def _within(record: RunRecord, first: int) -> list[Moment]:
    """The tests while tasks were trained, from the first of this run on."""
    curve, found = record.curve, list[Moment]()
    places = zip(curve.tasks.tolist(), curve.at.tolist(), curve.steps.tolist(), strict=True)
    for (task, at, steps), row in zip(list(places)[: curve.done], curve.accs, strict=False):
        epoch, total = record.lengths[task]
        if at < total and task >= first:
            found.append(WithinTested(task + 1, -(-at // epoch), at, steps, row))
    return found
