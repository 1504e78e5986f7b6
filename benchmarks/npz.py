"""Reading the four arrays of an npz file that may be damaged or hostile."""

from __future__ import annotations

import math
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchmarks.arrays import (
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
        require_file(path)
        with ZipFile(path) as archive:
            _require_keys(archive)
            check_layouts({key: _layout(archive, key) for key in KEYS}, dataset)
            arrays = Arrays(**{key: _array(archive, key) for key in KEYS}, source=source)
        check_arrays(arrays, dataset)
    return arrays


def _require_keys(archive: ZipFile) -> None:
    names = archive.namelist()
    missing = [key for key in KEYS if f"{key}.npy" not in names]
    if missing:
        # A damaged or hostile list of names may be of any length.
        found = ", ".join(name.removesuffix(".npy")[:20] for name in names[:8]) or "nothing"
        raise ValueError(
            f"no {', '.join(missing)} in it (found {found}), expected {', '.join(KEYS)}"
        )


def _layout(archive: ZipFile, key: str) -> Layout:
    """Shape and type from the array's header. Raises ValueError if its size in the zip differs."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        # Later versions allow headers of 4 GiB, which plain arrays never need.
        if version != (1, 0):
            raise ValueError(f"{key} is not a plain array (npy version {version})")
        shape, _, dtype = npy.read_array_header_1_0(file)
        start = file.tell()
    if not dtype.hasobject and start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{key} has not the size that its header gives")
    return Layout(shape, dtype)


def _array(archive: ZipFile, key: str) -> NDArray[np.uint8]:
    """An array whose header has been found right; in large parts, which threads wait less for."""
    with archive.open(f"{key}.npy") as file:
        npy.read_magic(file)
        shape, fortran, _ = npy.read_array_header_1_0(file)
        array = np.empty(shape, np.uint8, "F" if fortran else "C")
        flat = array.reshape(-1, order="A")
        for at in range(0, len(flat), PART):
            part = flat[at : at + PART]
            found = np.frombuffer(file.read(len(part)), np.uint8)
            if len(found) < len(part):
                raise ValueError(f"{key} ends early")
            part[:] = found
    return np.ascontiguousarray(array)
