"""Incremental CIFAR-100: its hundred fine classes, split evenly over the tasks."""

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

DATASET = DATASETS["cifar100"]
# Per channel over the 50,000 training pictures.
MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)


def facts(exp: Experiment) -> Facts:
    """Its classes, shared out."""
    return shared_out(DATASET.picture, DATASET.classes, DATASET.pictures, exp.num_batch)


def make_stream(exp: Experiment) -> TaskStream:
    """exp.num_batch tasks with 100 / num_batch classes each.

    Raises DataError where the pictures cannot be had.
    """
    from benchmarks.split import split_stream  # torch comes with it, and facts are asked without

    arrays, data = load(DATASET, Path(exp.data_dir), sample=exp.data == "sample")
    stream = split_stream(exp, arrays, facts(exp), kind="classes", mean=MEAN, std=STD)
    return replace(stream, data=data)
