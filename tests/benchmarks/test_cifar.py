from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import cifar, cifar100, make_stream
from exps.rules import contradictions


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
    keys = {"benchmark": "cifar100", "num_batch": 25, "scenario": "class"}
    exp = make_exp(**keys, class_order="random", data_dir=str(tmp_path))
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


# Of the 100 fine labels, the superclass of each in the published files.
COARSE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]


def test_a_superclass_has_five_classes_of_its_own():
    assert len(set(cifar100.LABELS)) == 100 and list(cifar100.SUPERCLASSES) == sorted(
        cifar100.SUPERCLASSES
    )
    for coarse, names in enumerate(cifar100.FIVES):
        fine = [i for i, found in enumerate(COARSE) if found == coarse]
        assert [cifar100.LABELS[i] for i in fine] == list(names) and len(fine) == 5


@pytest.fixture
def hundred(make_exp, make_arrays, tmp_path):
    """CIFAR-100's superclasses, two training pictures of each class."""
    np.savez(tmp_path / "cifar100.npz", **make_arrays(channels=3, classes=100, train=200, test=100))
    keys = {"benchmark": "cifar100", "cifar100_mode": "superclasses", "scenario": "class"}
    return lambda **more: make_exp(**keys, data_dir=str(tmp_path), **more)


@pytest.mark.parametrize("tasks", [4, 20])
@pytest.mark.parametrize("order", ["sorted", "random"])
def test_tasks_have_whole_superclasses(hundred, tasks, order):
    stream = make_stream(hundred(num_batch=tasks, class_order=order))
    found = [sorted({COARSE[y] for y in stream.train.y[t.train.rows]}) for t in stream.tasks]
    assert all(len(coarse) == 20 // tasks for coarse in found)
    dealt = [coarse for some in found for coarse in some]
    assert sorted(dealt) == list(range(20)) and (dealt == list(range(20))) == (order == "sorted")
    assert [len(t.train) for t in stream.tasks] == [200 // tasks] * tasks
    if tasks == 20 and order == "sorted":
        assert stream.tasks[0].name == "beaver, dolphin, otter, seal, whale"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"num_batch": 25}, "can be split into 1, 2, 4, 5, 10 or 20 tasks"),
        ({"num_batch": 20, "class_order": tuple(range(100))}, "the order is one of these"),
        ({"classes_per_task": (5, 7)}, "of which 7 are no whole number"),
    ],
)
def test_superclasses_are_not_cut(hundred, keys, said):
    assert any(said in reason for _, reason in contradictions(hundred(**keys)))
    assert not list(contradictions(hundred(num_batch=20)))
