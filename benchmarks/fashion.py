"""Fashion-MNIST: ten kinds of clothes, in pictures like MNIST's (Xiao et al., 2017, "Fashion-MNIST:
a novel image dataset for benchmarking machine learning algorithms")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.datasets import DATASETS
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, stream_of
from exps.facts import Facts

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

DATASET, TESTED = DATASETS["fashion"], 10_000
LABELS = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
KEYS = {"tasks": TASKS, "rotation_max": ROTATION_MAX}


def facts(exp: Experiment) -> Facts:
    """Ten kinds of clothes, in all tasks or shared out."""
    return facts_of(exp, DATASET.picture, DATASET.classes, DATASET.pictures, TESTED)


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of them, as exp.tasks says. Raises DataError where the pictures cannot be had."""
    return stream_of(exp, DATASET, facts(exp), kind="clothes", labels=LABELS)
