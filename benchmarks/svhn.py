"""SVHN: the digits of house numbers, in colour, with parts of those beside them (Netzer et al.,
2011, "Reading digits in natural images with unsupervised feature learning")."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import Dataset, swapped
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, stream_of
from benchmarks.torchvision_copy import check_sums, files_of
from exps.facts import Facts

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

KEYS = {"tasks": TASKS, "rotation_max": ROTATION_MAX}
TESTED = 26_032
WEB = "http://ufldl.stanford.edu/housenumbers"
LABELS = tuple("0123456789")


def _read(place: Path, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """MATLAB's files (version 5): X is uint8 [height, width, 3, n], and in y 10 is the digit 0."""
    from scipy.io import loadmat  # which takes its time

    files, arrays = files_of(place, dataset), {}
    check_sums(files, {Path(url).name: md5 for url, md5 in dataset.web})  # before any is opened
    for part, (name,) in (("train", dataset.train), ("test", dataset.test)):
        found = loadmat(BytesIO(files.pop(name)[1]))
        # The first index runs fastest: in memory X is [n, 3, width, height].
        arrays[f"x_{part}"] = swapped(found["X"].T).transpose(0, 2, 3, 1)
        arrays[f"y_{part}"] = (found["y"].ravel() % 10).astype(np.uint8)
    return arrays


DATASET = Dataset(
    name="svhn",
    classes=10,
    picture=(3, 32, 32),
    pictures=73_257,
    torchvision="SVHN",
    folder="SVHN",
    train=("train_32x32.mat",),
    test=("test_32x32.mat",),
    read=_read,
    web=(
        (f"{WEB}/train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        (f"{WEB}/test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ),
)


def facts(exp: Experiment) -> Facts:
    """Ten digits, in all tasks or shared out."""
    its = DATASET.picture, DATASET.classes, DATASET.pictures
    return facts_of(exp, *its, TESTED, mirrored=False)


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of them, as exp.tasks says. Raises DataError where the pictures cannot be had."""
    return stream_of(exp, DATASET, facts(exp), kind="digits", labels=LABELS)
