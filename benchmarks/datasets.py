"""Where pictures are looked for, and in which order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from benchmarks.formats import Arrays, DataError, Dataset, faults_of, one_line
from benchmarks.npz import read_npz
from benchmarks.torchvision_copy import download, exists, find_copy, found_in, is_there, read_copy
from exps.experiment import KEYS
from exps.messages import ConfigError, three_lines

__all__ = ["Arrays", "DataError", "Dataset", "load_arrays"]

BUNDLED = Path(__file__).parent / "data"
DEFAULT_DIR = Path(str(KEYS["data_dir"].default))  # any other was set by hand

SHA256 = {
    "digits.npz": "6ba43d1a9c1fa96fb461ab22e7748cc47140a5abae94a0d7bbe5005eccbc9b87",
    "mnist.npz": "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    "cifar10_sample.npz": "22b586d520d00f7a5ab93472764afb76f4f748b2eb9864bacf80840a089eb273",
}

# Digests of what is in them (`benchmarks.digest`).
BUNDLED_DATA = {
    "mnist.npz": "35914650c8beaeed4429263376775b71ac05b224ab7d958a603bb5feac95afaf",
    "cifar10_sample.npz": "a304a560fc5fec4c4a8f8080a7716fbc546e37d1e2b896dd048f2a183aa547f8",
}


def _like_mnist(name: str, torchvision: str, bundled: str | None = None) -> Dataset:
    return Dataset(
        name=name,
        classes=10,
        picture=(1, 28, 28),
        pictures=60_000,
        torchvision=torchvision,
        folder=f"{torchvision}/raw",
        train=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        test=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        bundled=bundled,
    )


DATASETS = {
    "mnist": _like_mnist("mnist", "MNIST", "mnist.npz"),
    "fashion": _like_mnist("fashion", "FashionMNIST"),
    "kmnist": _like_mnist("kmnist", "KMNIST"),
    "cifar10": Dataset(
        name="cifar10",
        classes=10,
        picture=(3, 32, 32),
        pictures=50_000,
        torchvision="CIFAR10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        archive="cifar-10-python.tar.gz",
        sample="cifar10_sample.npz",
    ),
    "cifar100": Dataset(
        name="cifar100",
        classes=100,
        picture=(3, 32, 32),
        pictures=50_000,
        torchvision="CIFAR100",
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        archive="cifar-100-python.tar.gz",
    ),
}


def load_arrays(
    dataset: str | Dataset, data_dir: Path, sample: bool = False, *, fetch: bool = True
) -> Arrays:
    """The pictures and labels of a data set (of DATASETS, by name, or another), from the first
    place that has any:

    data_dir/<its name>.npz, the copy that torchvision keeps in data_dir or the archive of it, the
    bundled file, a download by torchvision into data_dir unless `fetch` is false. With `sample`,
    only the bundled sample.

    Raises DataError where the first place that has something holds it damaged, and where no place
    has anything; ConfigError for a data_dir that cannot be read, and for one that is not the
    default and has nothing of a data set that would then be taken from the bundled file.
    """
    wanted = DATASETS[dataset] if isinstance(dataset, str) else dataset
    if sample:
        return _sample(wanted)
    data_dir = _checked_folder(data_dir)
    npz = data_dir / f"{wanted.name}.npz"
    if is_there(npz):
        return read_npz(npz, wanted, source=str(npz))
    copy = find_copy(data_dir, wanted)
    if copy is not None:
        return read_copy(copy, wanted, source=f"{copy}{_whose(wanted)}")
    if wanted.bundled and is_there(BUNDLED / wanted.bundled):
        if data_dir != DEFAULT_DIR:
            raise ConfigError(_not_there(wanted, data_dir))
        return _bundled(wanted.bundled, wanted)
    if not fetch:
        raise DataError(_not_found(wanted, data_dir.absolute(), "it was not asked for"))
    try:
        source = f"{data_dir / wanted.folder} (downloaded by torchvision)"
        return download(data_dir, wanted, source=source)
    except DataError as err:
        raise DataError(_not_found(wanted, data_dir.absolute(), one_line(err))) from err


def _sample(dataset: Dataset) -> Arrays:
    if dataset.sample is None:
        raise DataError(
            "data = sample cannot be used",
            f"no sample of {dataset.name} is bundled",
            "set data = full",
        )
    return _bundled(dataset.sample, dataset)


def _bundled(name: str, dataset: Dataset) -> Arrays:
    return read_npz(bundled(name), dataset, source=f"{name} (bundled)")


def bundled(name: str) -> Path:
    """The path of a bundled file. Raises DataError where it is not what it was."""
    path = BUNDLED / name
    with faults_of(path, f"restore it with: git checkout -- benchmarks/data/{name}"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
            raise ValueError(f"it is damaged: its SHA-256 sum is not {SHA256[name]}")
    return path


def _checked_folder(data_dir: Path) -> Path:
    """data_dir with ~ expanded; a folder that can be read, or nothing at all."""
    try:
        data_dir = data_dir.expanduser()
        if exists(data_dir):
            os.listdir(data_dir)
    except (OSError, RuntimeError, ValueError) as err:
        raise ConfigError(
            f"data_dir = {str(data_dir)!r} cannot be read",
            one_line(err),
            "set it to a folder that can be read",
        ) from err
    return data_dir


def _whose(dataset: Dataset) -> str:
    return " (torchvision's copy)" if dataset.torchvision else ""


def _places(dataset: Dataset, data_dir: Path) -> str:
    """What is looked for in data_dir, for people."""
    folder = f"{data_dir / dataset.folder}{_whose(dataset)}"
    places = [f"{data_dir / dataset.name}.npz", folder]
    names = dataset.train + dataset.test
    places.append(f"{names[0]}, ..., {names[-1]} in {data_dir}")
    if dataset.archive:
        places.append(f"{data_dir / dataset.archive}")
    return "; ".join(places)


def _not_there(dataset: Dataset, data_dir: Path) -> str:
    """The message for a data_dir set by hand that has nothing of a data set that is bundled."""
    there = exists(data_dir)
    places = _places(dataset, data_dir)
    return three_lines(
        f"data_dir = {data_dir}: "
        + (f"there is no {dataset.name} in it" if there else "there is no such folder"),
        f"looked for {places}" + (f"; {found_in(data_dir)}" if there else ""),
        f"set it to the folder that has {dataset.name}, or leave it out: then the bundled file is"
        " used",
    )


def _not_found(dataset: Dataset, data_dir: Path, reason: str) -> str:
    """The one message for when no place has the data set; `reason` is why the download failed."""
    places = _places(dataset, data_dir)
    ways = [f"put {dataset.name}.npz (x_train, y_train, x_test, y_test, all uint8) there"]
    if dataset.bundled:
        places += f"; {BUNDLED / dataset.bundled} (bundled)"
        ways.append(f"git checkout -- benchmarks/data/{dataset.bundled}")
    if dataset.archive:
        ways.append(f"put {dataset.archive} there, packed or not")
    if dataset.sample:
        ways.append("set data = sample for the bundled sample")
    ways.append("connect to the internet")
    return three_lines(
        f"{dataset.name} was not found: looked for {places}",
        f"data_dir = {data_dir}: {found_in(data_dir)}, and the download failed ({reason})",
        "; or ".join(ways),
    )
