"""Incremental CIFAR-10 (iCIFAR10): its classes, split evenly over the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import DATASETS
from benchmarks.digest import load
from exps.facts import Facts, shared_out

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

DATASET = DATASETS["cifar10"]
SAMPLE, SAMPLE_TESTED = 1000, 200  # pictures of it to train on, and to test on
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Per channel over the 50,000 training pictures.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def facts(exp: Experiment) -> Facts:
    """Its classes, shared out."""
    shape, classes, count = DATASET.picture, DATASET.classes, exp.num_batch
    if exp.data == "sample":
        return shared_out(shape, classes, SAMPLE, count, SAMPLE_TESTED)
    return shared_out(shape, classes, DATASET.pictures, count)


def make_stream(exp: Experiment) -> TaskStream:
    """exp.num_batch tasks with 10 / num_batch classes each, from the sample if exp.data says so.

    Raises DataError where the pictures cannot be had.
    """
    from benchmarks.split import split_stream  # torch comes with it, and facts are asked without

    arrays, data = load(DATASET, Path(exp.data_dir), sample=exp.data == "sample")
    stream = split_stream(
        exp, arrays, facts(exp), kind="classes", mean=MEAN, std=STD, labels=LABELS
    )
    return replace(stream, data=data)
