"""Kuzushiji-MNIST: ten signs of old Japanese handwriting, in pictures like MNIST's (Clanuwat et
al., 2018, "Deep learning for classical Japanese literature")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.datasets import DATASETS
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, stream_of
from exps.facts import Facts

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

DATASET, TESTED = DATASETS["kmnist"], 10_000
LABELS = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
KEYS = {"tasks": TASKS, "rotation_max": ROTATION_MAX}


def facts(exp: Experiment) -> Facts:
    """Ten signs, in all tasks or shared out."""
    its = DATASET.picture, DATASET.classes, DATASET.pictures
    return facts_of(exp, *its, TESTED, mirrored=False)


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of them, as exp.tasks says. Raises DataError where the pictures cannot be had."""
    return stream_of(exp, DATASET, facts(exp), kind="signs", labels=LABELS)
