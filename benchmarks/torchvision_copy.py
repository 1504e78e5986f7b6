"""The copy of a data set that torchvision keeps in a folder, and its download into that folder.

MNIST's files are read here, packed or not; CIFAR's are pickles, of which torchvision knows the
sums; how others are read, the data set says. torchvision is imported only for the pickles and for a
download: that would double the time to start.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import socket
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import (
    MAX_BYTES,
    Arrays,
    DataError,
    Dataset,
    check_arrays,
    faults_of,
    one_line,
)
from benchmarks.packed import contents, members
from exps.messages import all_of, shown

ALIKE = ("MNIST", "FashionMNIST", "KMNIST")
MNIST_LABELS = "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"  # of training
PATIENCE = 30.0  # seconds without an answer; torchvision itself would wait for ever

Files = dict[str, tuple[Path, bytes]]  # by name: the file that was opened, and what is in it


def find_copy(root: Path, dataset: Dataset) -> Path | None:
    """The folder with the data set's files, or the archive of them, where `root` has one.

    `root` may be that folder itself, or the one above it. Whatever is in the folder where
    torchvision keeps its copy counts: what is damaged is not passed over.
    """
    folder = root / dataset.folder

    def files(place: Path) -> int:
        return sum(_file(place, name) is not None for name in dataset.train + dataset.test)

    def archive(*places: Path) -> Path | None:
        paths = (path for place in filter(Path.is_dir, places) for path in archives(place, dataset))
        return next(filter(exists, paths), None)

    with faults_of(root):
        if is_there(folder):
            return folder if files(folder) else archive(folder) or folder
        above = (root / folder.name, root)
        return next((near for near in above if files(near) > 1), None) or archive(*above)


def archives(root: Path, dataset: Dataset) -> list[Path]:
    """The names that an archive of the data set may have."""
    if dataset.archive is None:
        return []
    ends = (".zip",) if dataset.archive.endswith(".zip") else (".tar.gz", ".tgz", ".tar")
    stems = (dataset.archive.removesuffix(ends[0]), dataset.folder)
    return [root / f"{stem}{end}" for stem in stems for end in ends]


def read_copy(place: Path, dataset: Dataset, source: str) -> Arrays:
    """The arrays of a folder or an archive. Raises DataError for a damaged one."""
    read = dataset.read or (read_mnist if dataset.torchvision.endswith("MNIST") else _read_cifar)
    with faults_of(place):
        arrays = Arrays(**read(place, dataset), source=source)
        check_arrays(arrays, dataset)
        _require_own(arrays, dataset)
    return arrays


def _require_own(arrays: Arrays, dataset: Dataset) -> None:
    """Raise ValueError where MNIST's files are taken for those of a data set like it, or theirs for
    MNIST's: they have the same names and sizes."""
    if dataset.torchvision in ALIKE and len(arrays.y_train) == dataset.pictures:
        labels = hashlib.sha256(arrays.y_train.astype(np.uint8).tobytes()).hexdigest()
        if (labels == MNIST_LABELS) != (dataset.name == "mnist"):
            which = "another data set" if dataset.name == "mnist" else "MNIST"
            raise ValueError(f"its labels are those of {which}, whose files have the same names")


def files_of(place: Path, dataset: Dataset) -> Files:
    """The data set's files in a folder or an archive. Raises DataError, ValueError, OSError."""
    names, files = dataset.train + dataset.test, Files()
    if place.is_dir():
        for name in names:
            read = sum(len(content) for _, content in files.values())
            files[name] = _in_folder(place, name, MAX_BYTES - read)
        return files
    packed = members(place, names)
    if missing := [name for name in names if name not in packed]:
        raise ValueError(f"there is no {', '.join(missing)} in it")
    return {name: (place, content) for name, content in packed.items()}


def check_sums(files: Files, sums: Mapping[str, str]) -> None:
    """Raise DataError unless the MD5 sums of all files are these, by name."""
    for name, (path, content) in files.items():
        with faults_of(path):
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != sums[name]:
                raise ValueError(f"{name} is damaged: its MD5 sum is not {sums[name]}")


def download(root: Path, dataset: Dataset, source: str) -> Arrays:
    """Let torchvision download the data set, put its copy under `root`, and return the arrays.

    Everything happens in a folder of its own inside `root`, which is moved into place when it is
    complete and right, and is gone otherwise. Raises DataError with the reason of a failure.
    """
    torchvision = _torchvision()
    source_of = getattr(torchvision, dataset.torchvision, None)
    if source_of is None and not dataset.web:
        raise DataError(f"torchvision has no {dataset.torchvision}")
    errors = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)
    try:
        with _folder_inside(root) as scratch, _patience():
            folder = scratch / dataset.folder
            if source_of and not dataset.web:
                source_of(str(scratch), download=True)
            for url, md5 in dataset.web:
                torchvision.utils.download_url(url, str(folder), md5=md5)
            arrays = read_copy(find_copy(scratch, dataset) or folder, dataset, source)
            _move(folder, root / dataset.folder)
    except errors as err:
        raise DataError(f"{type(err).__name__}: {one_line(err)}") from err
    return arrays


def is_there(path: Path) -> bool:
    """Whether there is anything under this name that is not an empty folder."""
    with faults_of(path):
        return exists(path) and (not path.is_dir() or any(path.iterdir()))


def exists(path: Path) -> bool:
    """Whether the name is taken, be it by a dangling link. Raises OSError if that is hidden."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def found_in(folder: Path) -> str:
    """What is in a folder, for people: a few names of it."""
    if not exists(folder):
        return "there is no such folder"
    names = sorted(os.listdir(folder))
    few = [shown(name) for name in names[:6]] + [f"{len(names) - 6} more"] * (len(names) > 6)
    return f"there is {all_of(few)} in it" if few else "it is empty"


def _torchvision() -> Any:
    try:
        return import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as err:  # RuntimeError: not built for this torch
        raise DataError(
            "torchvision cannot be imported", one_line(err), "pip install -r requirements.txt"
        ) from err


def _file(folder: Path, name: str) -> Path | None:
    """The file in a folder that is called so, or as on other sites, or with .gz behind it.

    Debian and Kaggle have train-images.idx3-ubyte; Kaggle has folders of torchvision's names, too.
    """
    places = [place for place in (folder, folder / name) if place.is_dir()]
    called = [f"{n}{end}" for end in ("", ".gz") for n in (name, name.replace("-idx", ".idx"))]
    paths = [place / n for place in places for n in called]
    return next((path for path in paths if exists(path) and not path.is_dir()), None)


def _in_folder(folder: Path, name: str, room: int) -> tuple[Path, bytes]:
    path = _file(folder, name)
    if path is None:
        raise DataError(
            f"{folder / name} is missing",
            f"{folder}: {found_in(folder)}",
            "put it there, packed (.gz) or not, or remove the others to use the next place in"
            " the order",
        )
    with faults_of(path):
        return path, contents(path, room)


def read_mnist(place: Path, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """The four arrays of IDX files. Raises DataError, ValueError, OSError."""
    arrays, files = {}, files_of(place, dataset)
    for part, names in (("train", dataset.train), ("test", dataset.test)):
        for key, name in zip("xy", names, strict=True):
            path, content = files[name]
            with faults_of(path):
                arrays[f"{key}_{part}"] = _idx(content)
    return arrays


def _idx(content: bytes) -> NDArray[np.uint8]:
    """The array of an IDX file: 0, 0, the type, the number of dimensions; sizes; the numbers."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("it is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    numbers = np.frombuffer(content, np.uint8)[start:]
    if len(content) < start or len(numbers) != math.prod(shape):
        raise ValueError(f"it has {len(content)} bytes, which is not what its header gives")
    return numbers.reshape(shape).copy()


def _read_cifar(place: Path, dataset: Dataset) -> dict[str, NDArray[Any]]:
    arrays, files = {}, files_of(place, dataset)
    cls = getattr(_torchvision(), dataset.torchvision)
    # The files are pickles: none is opened before the sums of all are right.
    check_sums(files, dict((*cls.train_list, *cls.test_list)))
    for part, names in (("train", dataset.train), ("test", dataset.test)):
        parts = [pickle.loads(files[name][1], encoding="latin1") for name in names]
        x = np.vstack([p["data"] for p in parts]).reshape(-1, 3, 32, 32)
        labels = "labels" if "labels" in parts[0] else "fine_labels"
        arrays[f"x_{part}"] = x.transpose(0, 2, 3, 1)
        arrays[f"y_{part}"] = np.concatenate([p[labels] for p in parts]).astype(np.uint8)
    return arrays


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
