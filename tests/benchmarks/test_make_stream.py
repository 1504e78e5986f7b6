from __future__ import annotations

import pytest
import torch

from benchmarks import make_stream


@pytest.mark.parametrize(
    ("benchmark_name", "data", "shape"),
    [("mnist", "full", (1, 28, 28)), ("cifar", "sample", (3, 32, 32))],
)
def test_the_module_is_chosen_by_name(make_exp, benchmark_name, data, shape):
    exp = make_exp(benchmark=benchmark_name, data=data, num_batch=2, scenario="class")
    stream = make_stream(exp)
    assert stream.input_shape == shape
    assert len(stream.training) == len(stream.tasks) == 2


def test_a_cumulative_run_trains_once_on_everything(make_exp):
    stream = make_stream(
        make_exp(benchmark="cifar", data="sample", num_batch=5, scenario="task", cumul=True)
    )
    assert [len(task.train) for task in stream.training] == [1000]
    assert len(stream.tasks) == 5
    assert stream.head_sizes == (10,)


def test_validation_takes_the_place_of_the_test_pictures(make_exp):
    whole = make_stream(make_exp(benchmark="cifar", data="sample", num_batch=5, scenario="task"))
    stream = make_stream(
        make_exp(benchmark="cifar", data="sample", num_batch=5, scenario="task", validation=0.2)
    )
    assert stream.test is stream.train
    for task, all_of_it in zip(stream.tasks, whole.tasks, strict=True):
        assert len(task.test) == 40 and len(task.train) == 160
        parts = torch.cat([task.train.rows, task.test.rows]).sort().values
        assert torch.equal(parts, all_of_it.train.rows)
        assert stream.train.y[task.test.rows].bincount().tolist()[-2:] == [20, 20]
    assert stream.training == stream.tasks
    assert "tested on 20 % of the training pictures" in stream.source
