"""Reading the arrays of an npz file that may be damaged or hostile."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchmarks.formats import (
    KEYS,
    Arrays,
    Dataset,
    Layout,
    check_arrays,
    check_layouts,
    faults_of,
    require_file,
)

PART = 2**22  # bytes


def read_npz(path: Path, dataset: Dataset, source: str) -> Arrays:
    """The arrays of an npz file with the keys x_train, y_train, x_test, y_test.

    Nothing is unpickled, and nothing is read before the headers of all arrays have been found
    right. Raises DataError for a file that is damaged or is not this data set.
    """
    with faults_of(path):
        require_file(path, dataset.most)
        with ZipFile(path) as archive:
            _require_keys(archive)
            check_layouts({key: layout(archive, key) for key in KEYS}, dataset)
            arrays = Arrays(**{key: array(archive, key) for key in KEYS}, source=source)
        check_arrays(arrays, dataset)
    return arrays


def _require_keys(archive: ZipFile) -> None:
    missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
    if missing:
        raise ValueError(
            f"no {', '.join(missing)} in it (found {found_in(archive)}), expected {', '.join(KEYS)}"
        )


def found_in(archive: ZipFile) -> str:
    """The names of its arrays, for people: a damaged or hostile list of names may be of any length,
    so only the beginning of a few."""
    return ", ".join(n.removesuffix(".npy")[:20] for n in archive.namelist()[:8]) or "nothing"


def layout(archive: ZipFile, key: str) -> Layout:
    """Shape and type from the array's header. Raises ValueError if its size in the zip differs."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        # Later versions allow headers of 4 GiB, which plain arrays never need.
        if version != (1, 0):
            raise ValueError(f"{key} is not a plain array (npy version {version})")
        shape, _, dtype = npy.read_array_header_1_0(file)
        start = file.tell()
    if min(shape, default=0) < 0:
        raise ValueError(f"{key} has a negative size in its shape {shape}")
    if not dtype.hasobject and start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{key} has not the size that its header gives")
    return Layout(shape, dtype)


def array(archive: ZipFile, key: str) -> NDArray[Any]:
    """An array whose header has been found right; in large parts, which threads wait less for."""
    with archive.open(f"{key}.npy") as file:
        npy.read_magic(file)
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects, and these are never read")
        array = np.empty(shape, dtype, "F" if fortran else "C")
        flat = array.reshape(-1, order="A").view(np.uint8)
        for at in range(0, len(flat), PART):
            part = flat[at : at + PART]
            found = np.frombuffer(file.read(len(part)), np.uint8)
            if len(found) < len(part):
                raise ValueError(f"{key} ends early")
            part[:] = found
    return np.ascontiguousarray(array)
