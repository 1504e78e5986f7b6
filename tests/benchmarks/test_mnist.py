from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.mnist import make_stream
from benchmarks.views import permutations


@pytest.fixture
def bundled():
    """Permuted MNIST with a hundred tasks, from the bundled file."""
    return make_stream(
        SimpleNamespace(
            mnist_mode="perm",
            num_batch=100,
            scenario="domain",
            data="full",
            data_dir="data",
            seed=0,
            padding=0,
        )
    )


def test_permutations_are_orders_of_all_pixels():
    orders = permutations(5, 784, seed=0)
    assert orders.dtype == torch.int64 and orders.shape == (5, 784)
    assert torch.equal(orders.sort(1).values, torch.arange(784).expand(5, -1))
    assert len({tuple(order.tolist()) for order in orders}) == 5
    assert not torch.equal(orders[0], torch.arange(784))  # the first task is permuted too


def test_the_seed_alone_decides_the_permutations():
    assert torch.equal(permutations(2, 784, seed=0), permutations(5, 784, seed=0)[:2])
    assert not torch.equal(permutations(1, 784, seed=0), permutations(1, 784, seed=1))


def test_permuted_mnist(bundled):
    assert bundled.input_shape == (1, 28, 28)
    assert bundled.head_sizes == (10,)
    assert bundled.permutations.shape == (100, 784)
    assert [task.name for task in bundled.tasks[:2]] == ["permutation 1", "permutation 2"]
    assert all(len(t.train) == 60_000 and len(t.test) == 10_000 for t in bundled.tasks)
    assert bundled.source == "mnist.npz (bundled)"


def test_pixels_are_on_the_scale_of_0_to_1_and_permuted(bundled):
    few = bundled.tasks[3].train.take(slice(200))
    inputs = bundled.inputs(bundled.train, few)
    assert inputs.min() == 0 and inputs.max() == 1
    plain = bundled.train.x[:200].flatten(1)[:, bundled.permutations[3]] / 255
    torch.testing.assert_close(inputs.flatten(1), plain)
    assert bundled.labels(bundled.train, few).tolist()[:5] == [5, 0, 4, 1, 9]


def test_a_hundred_tasks_hold_no_more_than_one(bundled):
    samples = [s for t in bundled.tasks + bundled.training for s in (t.train, t.test)]
    tensors = [p for s in (bundled.train, bundled.test) for p in (s.x, s.y)]
    tensors += [s.rows for s in samples] + [bundled.targets, bundled.permutations]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    assert len(storages) == 8  # pictures, labels and rows of both parts, targets, permutations
    pictures, labels_and_rows = 70_000 * 784, 70_000 * 2 * 8
    per_task = 100 * (784 + 10) * 8
    assert sum(storages.values()) == pictures + labels_and_rows + per_task


@pytest.mark.parametrize(
    ("scenario", "heads"), [("domain", (10,)), ("task", (10, 10, 10)), ("class", (30,))]
)
def test_permuted_scenarios(make_exp, small, tmp_path, scenario, heads):
    np.savez(tmp_path / "mnist.npz", **small)
    stream = make_stream(make_exp(scenario=scenario, data_dir=str(tmp_path)))
    assert stream.head_sizes == heads
    assert stream.input_shape == (1, 4, 4)
    assert stream.permutations is not None and stream.permutations.shape == (3, 16)


def test_split_mnist(make_exp):
    stream = make_stream(make_exp(mnist_mode="split", num_batch=5, scenario="task"))
    assert [t.name for t in stream.tasks] == [f"digits {i}, {i + 1}" for i in range(0, 10, 2)]
    assert stream.head_sizes == (2,) * 5
    assert stream.permutations is None
    assert sum(len(task.train) for task in stream.tasks) == 60_000
    first = stream.tasks[0].train.take(slice(200))
    torch.testing.assert_close(stream.inputs(stream.train, first), stream.train.x[first.rows] / 255)
