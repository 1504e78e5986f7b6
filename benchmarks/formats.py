"""What a data set must look like, wherever it comes from, and the error for one that does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exps.messages import Told

KEYS = ("x_train", "y_train", "x_test", "y_test")

# Full CIFAR takes 176 MiB. Anything far beyond, or twice what there is to train on where that is
# more, is a wrong file or a zip bomb, and is not read.
MAX_BYTES = 512 * 2**20

STEP = 4096  # pictures at a time

REPLACE = "replace it, or remove it to use the next place in the order"


class DataError(Told):
    """The pictures cannot be had, or nothing can be learned from them; the message has three lines:
    what is wrong and where, why, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set in advance.

    `picture` is the usual shape of one, (channels, height, width): 1 channel for arrays [n, height,
    width], 3 for [n, height, width, 3]; `pictures` is how many there are to train on. `torchvision`
    is the name of torchvision's class ('': it has none), `folder` where that class keeps its copy,
    `train` and `test` the files there, `archive` what it unpacks to get them. `bundled` (all of the
    data set) and `sample` (a few pictures) are in benchmarks/data. `read` makes the four arrays of
    that folder or archive, where its files are not as MNIST's or CIFAR's; `web` has address and MD5
    sum of every file to download into `folder`, where that is not left to torchvision's class.
    """

    name: str
    classes: int
    picture: tuple[int, int, int]
    pictures: int
    torchvision: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    archive: str | None = None
    bundled: str | None = None
    sample: str | None = None
    read: Callable[[Path, Dataset], dict[str, NDArray[Any]]] | None = None
    web: tuple[tuple[str, str], ...] = ()

    @property
    def most(self) -> int:
        """The bytes that its arrays may take."""
        return max(MAX_BYTES, 2 * self.pictures * math.prod(self.picture))


@dataclass(frozen=True)
class Arrays:
    """x: uint8 or float32 pictures [n, height, width(, channels)], or float32 features [n, number];
    y: whole numbers [n], the labels; source: where they came from."""

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    source: str


@dataclass(frozen=True)
class Layout:
    """Shape and type of an array, known before (or without) reading it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def channels_first(x: NDArray[Any]) -> NDArray[Any]:
    """The pictures of `Arrays` as [n, channels, height, width], features as [n, 1, 1, number]."""
    if x.ndim == 4:
        return x.transpose(0, 3, 1, 2)
    return x[:, np.newaxis] if x.ndim == 3 else x[:, np.newaxis, np.newaxis]


def swapped(x: NDArray[Any]) -> NDArray[Any]:
    """Square pictures [n, ..., side, side] with rows for columns, in the memory that they have."""
    for at in range(0, len(x), STEP):
        part = x[at : at + STEP]
        part[...] = part.swapaxes(-2, -1).copy()
    return x


def check_layouts(layouts: Mapping[str, Layout], dataset: Dataset) -> None:
    """Raise ValueError unless types, shapes and total size are such as `dataset` can have."""
    for key in KEYS:
        _check_layout(key, layouts[key], dataset)
    for part in ("train", "test"):
        pictures, labels = layouts[f"x_{part}"].shape[0], layouts[f"y_{part}"].shape[0]
        if pictures != labels:
            raise ValueError(f"x_{part} has {pictures} pictures, but y_{part} has {labels} labels")
    train, test = layouts["x_train"].shape[1:], layouts["x_test"].shape[1:]
    if train != test:
        raise ValueError(f"the pictures of x_train are {train}, those of x_test {test}")
    size = sum(math.prod(layouts[key].shape) for key in KEYS)
    if size > dataset.most:
        raise ValueError(f"its arrays take {size} bytes, more than the {dataset.most} allowed")


def check_arrays(arrays: Arrays, dataset: Dataset) -> None:
    """Raise ValueError unless the arrays can be `dataset`: their layouts, and labels in range."""
    found = {key: getattr(arrays, key) for key in KEYS}
    check_layouts({key: Layout(a.shape, a.dtype) for key, a in found.items()}, dataset)
    for key in ("y_train", "y_test"):
        highest = int(found[key].max())
        if highest >= dataset.classes:
            raise ValueError(
                f"{key} has label {highest}; {dataset.name} has 0 to {dataset.classes - 1}"
            )


@contextmanager
def faults_of(path: Path, remedy: str = REPLACE) -> Iterator[None]:
    """Turn any fault met while reading `path` into one DataError that names it and the remedy."""
    try:
        yield
    except DataError:
        raise
    except Exception as err:  # zipfile, tarfile, zlib and numpy raise nearly anything here
        reason = one_line(err)
        why = reason if isinstance(err, ValueError) else f"it cannot be read ({reason})"
        raise DataError(f"{path} cannot be used", why, remedy) from err


def one_line(err: BaseException) -> str:
    """The message of an exception as one printable line, at most 400 characters of it.

    A damaged file may put anything into it. Without a message, it is the exception's type.
    """
    text = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return (line if len(line) <= 400 else f"{line[:400]}...") or type(err).__name__


def require_file(path: Path, most: float = MAX_BYTES) -> None:
    """Raise ValueError unless `path` is a regular file of at most so many bytes."""
    if not path.exists():
        raise ValueError("the file is missing")
    if not path.is_file():
        raise ValueError("this is not a file")
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"the file has {size} bytes, more than the {most} allowed")


def _check_layout(key: str, layout: Layout, dataset: Dataset) -> None:
    if layout.dtype != np.uint8:
        raise ValueError(f"{key} is of type {layout.dtype}, not uint8")
    expected: tuple[str, ...] = ("n",)
    if key.startswith("x"):
        expected += ("height", "width") if dataset.picture[0] == 1 else ("height", "width", "3")
    wrong_channels = expected[-1] == "3" and layout.shape[-1:] != (3,)
    if len(layout.shape) != len(expected) or wrong_channels:
        raise ValueError(f"{key} has shape {layout.shape}, not ({', '.join(expected)})")
    if min(layout.shape) < 1:
        raise ValueError(f"{key} is empty: its shape is {layout.shape}")
