"""Handwritten digits of 8 × 8 pixels, bundled: real pictures, and few, for trials and tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import own_file
from benchmarks.datasets import bundled
from benchmarks.digest import of_arrays
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, make_tasks
from exps.facts import Facts

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

FILE = "digits.npz"
SHARE = 0.2  # of every digit, that are tested on
CLASSES, PICTURES, TESTED = 10, 1438, 359
KEYS = {"tasks": TASKS, "rotation_max": ROTATION_MAX}


DATA_DIR = False  # nothing is looked for there


def facts(exp: Experiment) -> Facts:
    """Ten digits, in all tasks or shared out."""
    return facts_of(exp, (1, 8, 8), CLASSES, PICTURES, TESTED, mirrored=False)


def _where() -> own_file.Where:
    return own_file.Where(bundled(FILE), SHARE, 0)


def data_digest(exp: Experiment) -> str:
    """That of the pictures (`benchmarks.digest`), without torch."""
    return own_file.digest(_where())


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of the digits, as exp.tasks says. Raises DataError where the file is damaged."""
    arrays, known = own_file.read(_where())
    arrays = replace(arrays, source=f"{FILE} (bundled)")
    stream = make_tasks(exp, arrays, facts(exp), kind="digits", labels=known.labels)
    return replace(stream, data=of_arrays(arrays))
