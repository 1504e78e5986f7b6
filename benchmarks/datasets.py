"""Where pictures are looked for, and in which order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from benchmarks.arrays import Arrays, DataError, Dataset, faults_of, one_line
from benchmarks.npz import read_npz
from benchmarks.torchvision_copy import download, read_copy
from exps.experiment import KEYS
from exps.messages import three_lines

__all__ = ["Arrays", "DataError", "load_arrays"]

BUNDLED = Path(__file__).parent / "data"
DEFAULT_DIR = Path(str(KEYS["data_dir"].default))

SHA256 = {
    "mnist.npz": "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    "cifar10_sample.npz": "22b586d520d00f7a5ab93472764afb76f4f748b2eb9864bacf80840a089eb273",
}

# Digests of what is in them (`benchmarks.digest`).
BUNDLED_DATA = {
    "mnist.npz": "35914650c8beaeed4429263376775b71ac05b224ab7d958a603bb5feac95afaf",
    "cifar10_sample.npz": "a304a560fc5fec4c4a8f8080a7716fbc546e37d1e2b896dd048f2a183aa547f8",
}

DATASETS = {
    "mnist": Dataset(
        name="mnist",
        classes=10,
        channels=1,
        torchvision="MNIST",
        folder="MNIST/raw",
        bundled="mnist.npz",
    ),
    "cifar10": Dataset(
        name="cifar10",
        classes=10,
        channels=3,
        torchvision="CIFAR10",
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        sample="cifar10_sample.npz",
    ),
    "cifar100": Dataset(
        name="cifar100",
        classes=100,
        channels=3,
        torchvision="CIFAR100",
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
    ),
}


def load_arrays(
    dataset: str, data_dir: Path, sample: bool = False, *, fetch: bool = True
) -> Arrays:
    """The pictures and labels of mnist, cifar10 or cifar100, from the first place that has any:

    data_dir/<dataset>.npz, the copy that torchvision keeps in data_dir, the bundled file, a
    download by torchvision into data_dir unless `fetch` is false. With `sample`, only the bundled
    sample. Raises DataError where the first place that has something holds it damaged, and where no
    place has anything.
    """
    wanted = DATASETS[dataset]
    if sample:
        return _sample(wanted)
    data_dir = _checked_folder(data_dir)
    npz, copy = data_dir / f"{dataset}.npz", data_dir / wanted.folder
    if _is_there(npz):
        return read_npz(npz, wanted, source=str(npz))
    if _is_there(copy):
        return read_copy(data_dir, wanted, source=f"{copy} (torchvision's copy)")
    if wanted.bundled and _is_there(BUNDLED / wanted.bundled):
        return _bundled(wanted.bundled, wanted)
    if not fetch:
        raise DataError(_not_found(wanted, data_dir.absolute(), "it was not asked for"))
    try:
        return download(data_dir, wanted, source=f"{copy} (downloaded by torchvision)")
    except DataError as err:
        raise DataError(_not_found(wanted, data_dir.absolute(), one_line(err))) from err


def _sample(dataset: Dataset) -> Arrays:
    if dataset.sample is None:
        raise DataError(f"data = sample: no sample of {dataset.name} is bundled; set data = full")
    return _bundled(dataset.sample, dataset)


def _bundled(name: str, dataset: Dataset) -> Arrays:
    path = BUNDLED / name
    repair = f"restore it with: git checkout -- benchmarks/data/{name}"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as err:
        raise DataError(three_lines(f"{path} cannot be read", one_line(err), repair)) from err
    if digest != SHA256[name]:
        why = f"its SHA-256 sum is not {SHA256[name]}"
        raise DataError(three_lines(f"{path} is damaged", why, repair))
    return read_npz(path, dataset, source=f"{name} (bundled)")


def _checked_folder(data_dir: Path) -> Path:
    """data_dir with ~ expanded; a folder that can be read, or nothing at all."""
    try:
        data_dir = data_dir.expanduser()
        if _exists(data_dir):
            os.listdir(data_dir)
    except (OSError, RuntimeError, ValueError) as err:
        raise DataError(
            three_lines(
                f"data_dir = {str(data_dir)!r} cannot be read",
                one_line(err),
                "set it to a folder that can be read",
            )
        ) from err
    return data_dir


def _is_there(path: Path) -> bool:
    """Whether there is anything under this name that is not an empty folder."""
    with faults_of(path):
        return _exists(path) and (not path.is_dir() or any(path.iterdir()))


def _exists(path: Path) -> bool:
    """Whether the name is taken, be it by a dangling link. Raises OSError if that is hidden."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _not_found(dataset: Dataset, data_dir: Path, reason: str) -> str:
    """The one message for when no place has the data set; `reason` is why the download failed."""
    npz, copy = data_dir / f"{dataset.name}.npz", data_dir / dataset.folder
    places = [f"{npz}", f"{copy} (torchvision's copy)"]
    ways = [f"put {npz.name} (x_train, y_train, x_test, y_test, all uint8) there"]
    if dataset.bundled:
        places.append(f"{BUNDLED / dataset.bundled} (bundled)")
        ways.append(f"git checkout -- benchmarks/data/{dataset.bundled}")
    if dataset.archive:
        ways.append(f"unpack {dataset.archive} there")
    if dataset.sample:
        ways.append("set data = sample for the bundled sample")
    ways.append("connect to the internet")
    return three_lines(
        f"{dataset.name} was not found: looked for {', '.join(places)}",
        f"the download failed ({reason})",
        "; or ".join(ways),
    )
