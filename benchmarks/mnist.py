"""Permuted, Split and Rotated MNIST."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.datasets import DATASETS, Arrays
from benchmarks.digest import load
from benchmarks.own_tasks import ROTATION_MAX
from exps.facts import Facts
from exps.keys import Key
from exps.kinds import Choice, Whole

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

DATASET = DATASETS["mnist"]
MEAN, STD = (0.0,), (1.0,)  # pixels stay on the scale of 0 to 1
KEYS = {
    "mnist_mode": Key(
        "perm",
        Choice(("perm", "split", "rotate")),
        "perm: a pixel permutation a task; split: two digits a task; rotate: all digits, turned "
        "further in every task",
        tests=True,
    ),
    "rotation_max": ROTATION_MAX,
    "padding": Key(
        0,
        Whole(0, 8, "pixels"),
        "zeros on each side of a picture: 2 make 32 × 32 of 28 × 28, as van de Ven & Tolias "
        "(2019) permute them",
        tests=True,
    ),
}


def facts(exp: Experiment) -> Facts:
    """Ten digits in every permutation or rotation, or two a task."""
    channels, height, width = DATASET.picture
    picture = channels, height + 2 * exp.padding, width + 2 * exp.padding
    if exp.mnist_mode != "split":
        return Facts(picture, DATASET.classes, DATASET.pictures, mirrored=False)
    split = ("task", 2, (1, 2, 3, 4, 5))
    return Facts(picture, DATASET.classes, DATASET.pictures, *split, mirrored=False)


def make_stream(exp: Experiment) -> TaskStream:
    """Permuted, Split or Rotated MNIST, as exp.mnist_mode says.

    perm: every task has all ten digits, its pixels in an order of its own, the first task's too
    (Goodfellow et al., 2013, "An empirical investigation of catastrophic forgetting"). split: two
    digits a task (Zenke et al., 2017, "Continual learning through synaptic intelligence"). rotate:
    see `views.rotated_stream`. Raises DataError where the pictures cannot be had.
    """
    from benchmarks.split import split_stream  # torch comes with it, and facts are asked without
    from benchmarks.views import permuted_stream, rotated_stream

    arrays, data = load(DATASET, Path(exp.data_dir), sample=exp.data == "sample")
    arrays = _padded(arrays, exp.padding)
    if exp.mnist_mode == "perm":
        stream = permuted_stream(exp, arrays, facts(exp), mean=MEAN, std=STD)
    elif exp.mnist_mode == "rotate":
        stream = rotated_stream(exp, arrays, facts(exp), mean=MEAN, std=STD)
    else:
        stream = split_stream(exp, arrays, facts(exp), kind="digits", mean=MEAN, std=STD)
    return replace(stream, data=data)


def _padded(arrays: Arrays, zeros: int) -> Arrays:
    """The pictures with so many zeros on each side."""
    if not zeros:
        return arrays
    edges = ((0, 0), (zeros, zeros), (zeros, zeros))
    x_train, x_test = (np.pad(x, edges) for x in (arrays.x_train, arrays.x_test))
    return replace(arrays, x_train=x_train, x_test=x_test)
