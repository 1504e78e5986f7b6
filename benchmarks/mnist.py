"""Permuted MNIST and Split MNIST."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Arrays, load_arrays
from benchmarks.seeding import generator
from benchmarks.split import pictures, split_stream
from benchmarks.stream import TaskStream, build_stream

if TYPE_CHECKING:
    from exps.config import Experiment

CLASSES = 10
MEAN, STD = (0.0,), (1.0,)  # pixels stay on the scale of 0 to 1


def make_stream(exp: Experiment) -> TaskStream:
    """Permuted or Split MNIST, as exp.mnist_mode says.

    perm: every task has all ten digits, its pixels in an order of its own, the first task's too
    (Goodfellow et al., 2013, "An empirical investigation of catastrophic forgetting"). split: two
    digits a task (Zenke et al., 2017, "Continual learning through synaptic intelligence"). Raises
    DataError where the pictures cannot be had.
    """
    arrays = load_arrays("mnist", Path(exp.data_dir), sample=exp.data == "sample")
    arrays = _padded(arrays, exp.padding)
    if exp.mnist_mode == "perm":
        return _permuted(exp, arrays)
    return split_stream(exp, arrays, classes=CLASSES, per_task=2, kind="digits", mean=MEAN, std=STD)


def _padded(arrays: Arrays, zeros: int) -> Arrays:
    """The pictures with so many zeros on each side."""
    if not zeros:
        return arrays
    edges = ((0, 0), (zeros, zeros), (zeros, zeros))
    x_train, x_test = (np.pad(x, edges) for x in (arrays.x_train, arrays.x_test))
    return replace(arrays, x_train=x_train, x_test=x_test)


def permutations(tasks: int, pixels: int, seed: int) -> Tensor:
    """int64 [tasks, pixels], a random order of the pixels for every task.

    The seed alone decides it: with more tasks, the first ones keep theirs.
    """
    source = generator(seed, "pixel permutations")
    return torch.stack([torch.randperm(pixels, generator=source) for _ in range(tasks)])


def _permuted(exp: Experiment, arrays: Arrays) -> TaskStream:
    train, test = pictures(arrays)
    return build_stream(
        train,
        test,
        [tuple(range(CLASSES))] * exp.num_batch,
        scenario=exp.scenario,
        mean=MEAN,
        std=STD,
        source=arrays.source,
        names=[f"permutation {i + 1}" for i in range(exp.num_batch)],
        permutations=permutations(exp.num_batch, train.x[0].numel(), exp.seed),
    )
