"""Incremental CIFAR-10 (iCIFAR10): its classes, split evenly over the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import load_arrays
from benchmarks.split import split_stream
from benchmarks.stream import TaskStream

if TYPE_CHECKING:
    from exps.config import Experiment

LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Per channel over the 50,000 training pictures.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def make_stream(exp: Experiment) -> TaskStream:
    """exp.num_batch tasks with 10 / num_batch classes each, from the sample if exp.data says so.

    Raises DataError where the pictures cannot be had.
    """
    arrays = load_arrays("cifar10", Path(exp.data_dir), sample=exp.data == "sample")
    return split_stream(
        exp,
        arrays,
        classes=len(LABELS),
        per_task=len(LABELS) // exp.num_batch,
        kind="classes",
        mean=MEAN,
        std=STD,
        labels=LABELS,
    )
