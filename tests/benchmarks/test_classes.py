"""Tasks whose training or test pictures lack a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import make_stream
from benchmarks.formats import DataError


@pytest.fixture
def stream(make_exp, make_arrays, tmp_path) -> Any:
    """The stream of a small MNIST whose parts lack the classes given."""

    def make(train: tuple[int, ...] = (), test: tuple[int, ...] = (), **changes: Any) -> Any:
        arrays = make_arrays(train=40, test=20)
        for part, classes in (("train", train), ("test", test)):
            keep = ~np.isin(arrays[f"y_{part}"], classes)
            arrays |= {key: arrays[key][keep] for key in (f"x_{part}", f"y_{part}")}
        np.savez(tmp_path / "mnist.npz", **arrays)
        return make_stream(make_exp(data_dir=str(tmp_path), **changes))

    return make


SPLIT = {"mnist_mode": "split", "scenario": "task", "num_batch": 5}


def test_nothing_is_said_of_what_is_complete(stream):
    for changes in ({}, SPLIT, {"cumul": True}, {"validation": 0.3}, SPLIT | {"validation": 0.3}):
        assert stream(**changes).warnings == ()


@pytest.mark.parametrize("cumul", [False, True])
def test_permuted_tasks_name_what_they_lack(stream, cumul):
    (text,) = stream(train=(9,), cumul=cumul).warnings
    assert text.startswith(
        "the tasks 'permutation 1', 'permutation 2' and 'permutation 3' have no training pictures"
        " of class 9;"
    )
    assert "mnist.npz" in text
    one, two = stream(train=(1, 9), test=(0,), num_batch=5, cumul=cumul).warnings
    assert "'permutation 3' and 2 more have no training pictures of classes 1 and 9;" in one
    assert "have no test pictures of class 0;" in two


def test_a_task_of_one_class_in_place_of_two_is_an_error(stream):
    message = r"(?s)^the task 'digits 6, 7' has no training pictures of class 7\n.*mnist\.npz"
    with pytest.raises(DataError, match=message):
        stream(train=(7,), **SPLIT)
    assert stream(train=(7,), **(SPLIT | {"num_batch": 3})).warnings == ()
    (text,) = stream(test=(7,), **SPLIT).warnings
    assert text.startswith("the task 'digits 6, 7' has no test pictures of class 7;")
    with pytest.raises(DataError, match="no test pictures of classes 6 and 7"):
        stream(test=(6, 7), **SPLIT)
    assert stream(test=(6, 7), **SPLIT, validation=0.2).warnings == ()  # they are not used


@pytest.mark.parametrize("validation", [0.0, 0.5])
def test_one_picture_is_an_error_of_the_data(make_exp, make_arrays, tmp_path, validation):
    np.savez(tmp_path / "mnist.npz", **make_arrays(train=1))
    with pytest.raises(DataError, match="nothing can be learned"):
        make_stream(make_exp(data_dir=str(tmp_path), validation=validation))


def test_a_class_of_one_picture_is_trained_on_and_named(make_exp, make_arrays, tmp_path):
    arrays = make_arrays(train=41)
    arrays["y_train"][[9, 19, 29]] = 8
    np.savez(tmp_path / "mnist.npz", **arrays)
    stream = make_stream(make_exp(data_dir=str(tmp_path), validation=0.9))
    (text,) = stream.warnings
    assert "have no test pictures of class 9;" in text
    assert 9 in stream.train.y[stream.tasks[0].train.rows]
