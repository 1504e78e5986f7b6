from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.formats import Arrays
from benchmarks.split import class_order, pictures, split_stream
from exps.facts import Facts


@pytest.fixture
def make_stream(make_exp, small):
    """A split of the small data set; the arguments replace values of the experiment."""

    def make(arrays=small, labels=None, per_task=2, **changes):
        exp = make_exp(**({"scenario": "task", "num_batch": 5} | changes))
        return split_stream(
            exp,
            Arrays(**arrays, source="small.npz"),
            Facts((1, 28, 28), 10, 60_000, per_task=per_task),
            kind="digits",
            mean=(0.0,),
            std=(1.0,),
            labels=labels,
        )

    return make


def test_class_order():
    assert class_order("sorted", 4, seed=0) == (0, 1, 2, 3)
    assert class_order((2, 0, 3, 1), 4, seed=0) == (2, 0, 3, 1)
    shuffled = class_order("random", 100, seed=0)
    assert sorted(shuffled) == list(range(100)) and shuffled != tuple(range(100))
    assert shuffled == class_order("random", 100, seed=0)
    assert shuffled != class_order("random", 100, seed=1)


def test_every_picture_is_in_exactly_one_task(make_stream):
    stream = make_stream(class_order="random")
    for part, count in (("train", 20), ("test", 10)):
        rows = torch.cat([getattr(task, part).rows for task in stream.tasks])
        assert sorted(rows.tolist()) == list(range(count))


def test_tasks_take_the_classes_in_order(make_stream):
    stream = make_stream(class_order=(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), num_batch=2)
    assert [task.name for task in stream.tasks] == ["digits 9, 8", "digits 7, 6"]
    assert stream.train.y[stream.tasks[0].train.rows].unique().tolist() == [8, 9]
    nines = stream.train.y[stream.tasks[0].train.rows] == 9
    assert torch.equal(stream.labels(stream.train, stream.tasks[0].train) == 0, nines)


@pytest.mark.parametrize(
    ("scenario", "heads", "outputs"),
    [
        ("domain", (2,), [{0, 1}, {0, 1}, {0, 1}]),
        ("task", (2, 2, 2), [{0, 1}, {0, 1}, {0, 1}]),
        ("class", (6,), [{0, 1}, {2, 3}, {4, 5}]),
    ],
)
def test_scenarios(make_stream, scenario, heads, outputs):
    stream = make_stream(scenario=scenario, num_batch=3)
    assert stream.scenario == scenario
    assert stream.head_sizes == heads
    assert [set(stream.labels(stream.test, t.test).tolist()) for t in stream.tasks] == outputs
    assert [t.head for t in stream.tasks] == ([0, 1, 2] if scenario == "task" else [0, 0, 0])


def test_names(make_stream):
    letters = "abcdefghij"
    assert make_stream(labels=letters).tasks[1].name == "c, d"
    assert make_stream(num_batch=1, per_task=10).tasks[0].name == "digits 0, ..., 9"
    assert make_stream(num_batch=1, per_task=10, labels=letters).tasks[0].name == "a, ..., j"


def test_pictures_are_channels_first(make_arrays):
    arrays = make_arrays(channels=3)
    train, _ = pictures(Arrays(**arrays, source=""))
    assert train.x.dtype == torch.uint8 and train.y.dtype == torch.int64
    assert train.x.is_contiguous() and train.x.shape == (20, 3, 32, 32)
    assert train.x[7, 2, 5, 9] == arrays["x_train"][7, 5, 9, 2]


def test_grey_pictures_get_a_channel(small):
    train, test = pictures(Arrays(**small, source=""))
    assert train.x.shape == (20, 1, 4, 4)
    assert np.array_equal(test.x[:, 0], small["x_test"])
