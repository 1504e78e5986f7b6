"""EMNIST: handwritten letters and digits, in pictures like MNIST's (Cohen et al., 2017, "EMNIST: an
extension of MNIST to handwritten letters")."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import Dataset, swapped
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, stream_of
from benchmarks.torchvision_copy import read_mnist
from exps.facts import Facts
from exps.keys import Key
from exps.kinds import Choice

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

KEYS = {
    "emnist_split": Key(
        "balanced",
        Choice(("balanced", "letters")),
        "balanced: 47 classes, digits, capitals, and the small letters that look unlike theirs; "
        "letters: 26, each letter small and capital",
        tests=True,
    ),
    "tasks": TASKS,
    "rotation_max": ROTATION_MAX,
}
LABELS = {
    "balanced": tuple(digits + ascii_uppercase + "abdefghnqrt"),
    "letters": tuple(ascii_lowercase),
}
PICTURES = {"balanced": 112_800, "letters": 124_800}  # and a sixth as many to test on
WEB = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e"


def _read(place: Path, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Upright, and labels from 0 on: in the files rows and columns are exchanged, and a is 1."""
    found, first = read_mnist(place, dataset), np.uint8("letters" in dataset.name)
    for part in ("train", "test"):
        swapped(found[f"x_{part}"])
        found[f"y_{part}"] -= first
    return found


def dataset_of(exp: Experiment) -> Dataset:
    """That of its split."""
    split = exp.emnist_split
    train, test = (
        tuple(f"emnist-{split}-{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
        for part in ("train", "test")
    )
    return Dataset(
        name=f"emnist-{split}",
        classes=len(LABELS[split]),
        picture=(1, 28, 28),
        pictures=PICTURES[split],
        torchvision="EMNIST",
        folder="EMNIST/raw",
        train=train,
        test=test,
        archive="gzip.zip",
        read=_read,
        web=(WEB,),
    )


def facts(exp: Experiment) -> Facts:
    """Its classes, in all tasks or shared out."""
    its = dataset_of(exp)
    count = its.pictures
    return facts_of(exp, its.picture, its.classes, count, count // 6, mirrored=False)


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of them, as exp.tasks says. Raises DataError where the pictures cannot be had."""
    labels = LABELS[exp.emnist_split]
    return stream_of(exp, dataset_of(exp), facts(exp), kind="signs", labels=labels)
