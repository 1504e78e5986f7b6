from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import cifar, cifar100, make_stream


@pytest.mark.parametrize("tasks", [1, 2, 5, 10])
def test_the_sample_is_split_evenly(make_exp, tasks):
    stream = cifar.make_stream(make_exp(num_batch=tasks, scenario="task", data="sample"))
    assert stream.input_shape == (3, 32, 32)
    assert stream.head_sizes == (10 // tasks,) * tasks
    assert [len(t.train) for t in stream.tasks] == [1000 // tasks] * tasks
    assert [len(t.test) for t in stream.tasks] == [200 // tasks] * tasks
    assert stream.source == "cifar10_sample.npz (bundled)"


def test_tasks_are_named_after_their_classes(make_exp):
    stream = cifar.make_stream(make_exp(num_batch=5, scenario="task", data="sample"))
    assert [t.name for t in stream.tasks][0::4] == ["airplane, automobile", "ship, truck"]


def test_channels_are_normalised(make_exp):
    stream = cifar.make_stream(make_exp(num_batch=1, scenario="task", data="sample"))
    inputs = stream.inputs(stream.train, stream.tasks[0].train)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)
    worked = (stream.train.x[0, 1, 2, 3].item() / 255 - cifar.MEAN[1]) / cifar.STD[1]
    assert inputs[0, 1, 2, 3].item() == pytest.approx(worked, abs=1e-5)


def test_cifar100_shares_out_a_hundred_classes(make_exp, make_arrays, tmp_path):
    arrays = make_arrays(channels=3, classes=100, train=200, test=100)
    np.savez(tmp_path / "cifar100.npz", **arrays)
    exp = make_exp(num_batch=25, scenario="class", class_order="random", data_dir=str(tmp_path))
    stream = cifar100.make_stream(exp)
    assert stream.head_sizes == (100,)
    assert [len(task.train) for task in stream.tasks] == [8] * 25
    outputs = [stream.labels(stream.test, task.test).unique().tolist() for task in stream.tasks]
    assert outputs == [list(range(4 * i, 4 * i + 4)) for i in range(25)]
    assert stream.tasks[0].name.startswith("classes ")


def test_cifar100_with_fewer_classes_is_warned_of(make_exp, make_arrays, tmp_path):
    np.savez(tmp_path / "cifar100.npz", **make_arrays(channels=3, classes=100, train=99, test=100))
    exp = make_exp(benchmark="cifar100", num_batch=10, scenario="task", data_dir=str(tmp_path))
    (text,) = make_stream(exp).warnings
    assert "the task 'classes 90, ..., 99' has no training pictures of class 99" in text
