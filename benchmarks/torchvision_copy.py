"""The copy of a data set that torchvision keeps in a folder, and its download into that folder.

torchvision is imported only where one of the two is needed: it would double the time to start.
"""

from __future__ import annotations

import socket
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.arrays import (
    Arrays,
    DataError,
    Dataset,
    check_arrays,
    faults_of,
    one_line,
    require_file,
)

PATIENCE = 30.0  # seconds without an answer; torchvision itself would wait for ever

_MNIST_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def read_copy(root: Path, dataset: Dataset, source: str) -> Arrays:
    """The arrays of torchvision's copy under `root`. Raises DataError for a damaged one."""
    tv = _torchvision()
    read = _read_mnist if dataset.torchvision.endswith("MNIST") else _read_cifar
    arrays = Arrays(**read(tv, root, dataset), source=source)
    with faults_of(root / dataset.folder):
        check_arrays(arrays, dataset)
    return arrays


def download(root: Path, dataset: Dataset, source: str) -> Arrays:
    """Let torchvision download the data set, put its copy under `root`, and return the arrays.

    Everything happens in a folder of its own inside `root`, which is moved into place when it is
    complete and right, and is gone otherwise. Raises DataError with the reason of a failure.
    """
    tv = _torchvision()
    errors = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)
    try:
        with _folder_inside(root) as scratch, _patience():
            getattr(tv, dataset.torchvision)(str(scratch), download=True)
            arrays = read_copy(scratch, dataset, source)
            _move(scratch / dataset.folder, root / dataset.folder)
    except errors as err:
        raise DataError(f"{type(err).__name__}: {one_line(err)}") from err
    return arrays


def _torchvision() -> Any:
    try:
        return import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as err:  # RuntimeError: not built for this torch
        raise DataError(
            f"torchvision cannot be imported ({one_line(err)}); pip install -r requirements.txt"
        ) from err


def _read_mnist(tv: Any, root: Path, dataset: Dataset) -> dict[str, Any]:
    found = {}
    for key, name in _MNIST_FILES.items():
        path = root / dataset.folder / name
        with faults_of(path):
            require_file(path)
            read = tv.mnist.read_image_file if key[0] == "x" else tv.mnist.read_label_file
            found[key] = read(str(path)).numpy().astype(np.uint8, copy=False)
    return found


def _read_cifar(tv: Any, root: Path, dataset: Dataset) -> dict[str, Any]:
    cls = getattr(tv, dataset.torchvision)
    meta = (cls.meta["filename"], cls.meta["md5"])
    # The files are pickles: none is opened before the sums of all are right.
    for name, md5 in (*cls.train_list, *cls.test_list, meta):
        path = root / dataset.folder / name
        with faults_of(path):
            require_file(path)
            if not tv.utils.check_integrity(str(path), md5):
                raise ValueError(f"the file is damaged: its MD5 sum is not {md5}")
    with faults_of(root / dataset.folder):
        train, test = cls(str(root), train=True), cls(str(root), train=False)
    return {
        "x_train": train.data,
        "y_train": np.array(train.targets, np.uint8),
        "x_test": test.data,
        "y_test": np.array(test.targets, np.uint8),
    }


@contextmanager
def _folder_inside(root: Path) -> Iterator[Path]:
    """A new folder inside `root` that is gone afterwards, and so is `root` where it stays empty."""
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=".download-", dir=root) as scratch:
            yield Path(scratch)
    finally:
        if made and not any(root.iterdir()):
            root.rmdir()


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _move(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, unless a run beside this one has put its own there meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if not any(target.iterdir()):
            target.rmdir()  # an interrupted download of torchvision's own leaves an empty folder
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
