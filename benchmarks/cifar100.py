"""Incremental CIFAR-100: its hundred fine classes, split evenly over the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import load_arrays
from benchmarks.split import split_stream
from benchmarks.stream import TaskStream

if TYPE_CHECKING:
    from exps.config import Experiment

CLASSES = 100
# Per channel over the 50,000 training pictures.
MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)


def make_stream(exp: Experiment) -> TaskStream:
    """exp.num_batch tasks with 100 / num_batch classes each.

    Raises DataError where the pictures cannot be had.
    """
    arrays = load_arrays("cifar100", Path(exp.data_dir), sample=exp.data == "sample")
    return split_stream(
        exp,
        arrays,
        classes=CLASSES,
        per_task=CLASSES // exp.num_batch,
        kind="classes",
        mean=MEAN,
        std=STD,
    )
