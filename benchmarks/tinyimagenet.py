"""Tiny ImageNet: two hundred classes of ImageNet, in pictures of 64 x 64 (Le & Yang, 2015, "Tiny
ImageNet visual recognition challenge"). Its val pictures are tested on: test has no labels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import Dataset, faults_of
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, stream_of
from benchmarks.packed import reader
from exps.facts import Facts
from exps.progress import watched

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

KEYS = {"tasks": TASKS, "rotation_max": ROTATION_MAX}
EACH = 50  # pictures of a class to test on
SIDE, MOST = 64, 2**20  # pixels; bytes of a file


def _pixels(jpeg: bytes) -> NDArray[np.uint8]:
    """[height, width, 3]; some are grey in their files."""
    from benchmarks.picture_folder import opened  # Pillow comes with it

    with opened(BytesIO(jpeg)) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"it has {image.width} × {image.height} pixels, not {SIDE} × {SIDE}")
        return np.asarray(image.convert("RGB"))


def _read(place: Path, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Classes in the order of their WordNet ids, which is that of the folders' names."""
    with reader(place, dataset.folder, MOST) as read:

        def lines(name: str, number: int) -> list[list[str]]:
            with faults_of(place / name):
                found = read(name).decode("ascii").splitlines()
                if len(found) != number:
                    raise ValueError(f"it has {len(found)} lines, not {number}")
                return [line.split() for line in found]

        names = sorted(wnid for (wnid,) in lines(dataset.train[0], dataset.classes))
        each = range(dataset.pictures // dataset.classes)
        train = [(f"train/{wnid}/images/{wnid}_{i}.JPEG", wnid) for wnid in names for i in each]
        marked = lines(dataset.test[0], EACH * dataset.classes)
        test = [(f"val/images/{name}", wnid) for name, wnid, *_ in marked]
        arrays = dict[str, NDArray[Any]]()
        for part, pictures in (("train", train), ("test", test)):
            x = np.empty((len(pictures), 3, SIDE, SIDE), np.uint8)
            y = np.empty(len(pictures), np.uint8)
            with watched(pictures, f"{place.name}: {part}") as those:
                for at, (name, wnid) in enumerate(those):
                    with faults_of(place / name):
                        x[at] = _pixels(read(name)).transpose(2, 0, 1)
                        y[at] = names.index(wnid)
            arrays |= {f"x_{part}": x.transpose(0, 2, 3, 1), f"y_{part}": y}
    return arrays


DATASET = Dataset(
    name="tinyimagenet",
    classes=200,
    picture=(3, SIDE, SIDE),
    pictures=100_000,
    torchvision="",
    folder="tiny-imagenet-200",
    train=("wnids.txt",),
    test=("val/val_annotations.txt",),
    archive="tiny-imagenet-200.zip",
    read=_read,
    web=(("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
)
LABELS = tuple(map(str, range(DATASET.classes)))


def facts(exp: Experiment) -> Facts:
    """Its classes, in all tasks or shared out."""
    its = DATASET.picture, DATASET.classes, DATASET.pictures
    return facts_of(exp, *its, EACH * DATASET.classes)


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of them, as exp.tasks says. Raises DataError where the pictures cannot be had."""
    return stream_of(exp, DATASET, facts(exp), kind="classes", labels=LABELS)
