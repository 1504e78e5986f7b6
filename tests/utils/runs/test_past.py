"""What a run has done before, told from its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from utils.runs.past import past
from utils.training.listener import EpochDone, TaskTested
from utils.training.record import TESTING, TRAINING, Place


@pytest.fixture
def whole(experiment: Callable, stream_of: Callable, trained: Callable) -> Any:
    exp = experiment(train_ep=2, train_ep_inc=1)
    return trained(exp, stream_of(exp, train=64, test=20))[0]


def told(record: Any, place: Place) -> list[tuple[str, int, int, int]]:
    return [
        ("epoch" if isinstance(m, EpochDone) else "test", m.task, m.epoch, m.number)
        for m in past(record, place)[0]
    ]


ALL = [("epoch", 1, 1, 1), ("epoch", 1, 2, 2), ("test", 1, 2, 2)]
ALL += [("epoch", 2, 1, 3), ("test", 2, 1, 3)]


@pytest.mark.parametrize(
    ("place", "count", "comes"),
    [
        (Place(), 0, False),
        (Place(0, 0, 5, TRAINING), 0, False),
        (Place(0, 1, 0, TRAINING), 1, False),
        (Place(0, 2, 0, TESTING), 2, True),
        (Place(1, 0, 0), 3, False),
        (Place(1, 1, 0, TESTING), 4, True),
        (Place(2, 0, 0), 5, False),
    ],
)
def test_every_place(whole: Any, place: Place, count: int, comes: bool) -> None:
    assert told(whole, place) == ALL[:count]
    assert past(whole, place)[1] == comes


def test_the_numbers_are_those_of_the_record(whole: Any) -> None:
    record = whole
    moments, _ = past(record, Place(2))
    epochs = [m for m in moments if isinstance(m, EpochDone)]
    assert [m.loss for m in epochs] == record.stats()["loss"].tolist()
    assert [m.entropy for m in epochs] == [
        dict(zip(record.layers, bits, strict=True)) for bits in record.entropy().tolist()
    ]
    first, last = (m for m in moments if isinstance(m, TaskTested))
    np.testing.assert_array_equal(last.matrix(), record.accs)
    np.testing.assert_array_equal(first.row, record.accs[0])
    assert np.isnan(first.matrix()[1]).all(), "as it was then"
    assert first.accs is last.accs, "a matrix for each of many tasks would not fit into memory"


def test_a_task_without_training(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    exp = experiment(train_ep=1, train_ep_inc=0)
    record = trained(exp, stream_of(exp, train=64, test=20))[0]
    assert told(record, Place(2)) == [
        ("epoch", 1, 1, 1),
        ("test", 1, 1, 1),
        ("test", 2, 0, 1),
    ]
    assert not past(record, Place(1, phase=TESTING))[1]
