"""The digest of the pictures and labels that a run uses: a part of what the run is.

It is taken over the arrays, so the same pictures have the same digest wherever they come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.arrays import Arrays, DataError, Dataset
from benchmarks.datasets import BUNDLED_DATA, DEFAULT_DIR, load_arrays

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

CACHE = ".sparse-syn-digests.json"  # beside the data
_STEP = 1000  # pictures at a time
_MOST = 1000  # files that are looked at to see that nothing has changed
_SETTLED = 2 * 10**9  # nanoseconds after which a change must show in the times of a file


def of_stream(stream: TaskStream) -> str:
    """SHA-256 over all pictures and labels of a stream whose pictures are on the CPU."""
    train, test = stream.train, stream.test
    return _digest(train.x.numpy(), train.y.numpy(), test.x.numpy(), test.y.numpy())


def of_arrays(arrays: Arrays) -> str:
    """The same for the arrays that a stream is made of: its pictures have their channels first."""
    x_train, x_test = (
        x[:, np.newaxis] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
        for x in (arrays.x_train, arrays.x_test)
    )
    return _digest(x_train, arrays.y_train, x_test, arrays.y_test)


def of_experiment(exp: Experiment) -> str:
    """The same for the data of an experiment, without torch where its benchmark says by DATASET
    which they are; '' where they are not here (nothing is downloaded) or cannot be used.
    """
    try:
        dataset: Dataset | None = exp.dataset
        if dataset is None:
            from benchmarks import make_stream

            return make_stream(exp).data
        if exp.data == "sample" and dataset.sample:
            return BUNDLED_DATA[dataset.sample]
        return _kept(dataset, Path(exp.data_dir).expanduser())
    except (DataError, OSError, RuntimeError, ValueError):  # the run itself says what is wrong
        return ""


def of_meta(meta: Mapping[str, Any]) -> str:
    """The digest of the data that a result's `meta` tells, an older one's by where they came from;
    '' where it does not."""
    name, bundled, _ = str(meta.get("data_source", "")).partition(" (bundled)")
    return str(meta.get("data") or (BUNDLED_DATA.get(name, "") if bundled else ""))


def _digest(*arrays: np.ndarray) -> str:
    """Over pictures [n, channels, height, width] and labels [n], in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        for start in range(0, len(array), _STEP):
            part = array[start : start + _STEP]
            part = part if part.ndim > 1 else part.astype("<i8")
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _kept(dataset: Dataset, folder: Path) -> str:
    """The digest of a data set below `folder`, taken anew only when any file there has changed."""
    bundled, before, name = dataset.bundled, _looks(folder, dataset), dataset.name
    if bundled and before == [] and folder == DEFAULT_DIR:
        return BUNDLED_DATA[bundled]  # no place comes before it
    kept = _read(folder / CACHE)
    if before and kept.get(name, [None])[0] == before:
        return str(kept[name][1])
    digest = of_arrays(load_arrays(dataset, folder, fetch=False))
    settled = before and time.time_ns() - max(max(times) for *_, times in before) > _SETTLED
    if settled and _looks(folder, dataset) == before:
        with contextlib.suppress(OSError):
            _write(folder / CACHE, kept | {name: [before, digest]})
    return digest


def _looks(folder: Path, dataset: Dataset) -> list[Any] | None:
    """Every file that the data may be read from, with what changes when it does: [] where there are
    none, None where they cannot be looked at, or are too many."""
    copy, found = Path(dataset.folder), list[Any]()
    try:
        tops = [folder / name for name in dict.fromkeys((copy.parts[0], copy.name))]
        places = [folder, *tops, *(path for top in tops for path in sorted(top.rglob("*")))]
        for place in filter(Path.is_dir, places):
            for path in sorted(place.iterdir()):
                if path.name != CACHE and not path.is_dir():
                    s = path.stat()
                    name = path.relative_to(folder).as_posix()
                    found.append([name, s.st_size, s.st_ino, [s.st_mtime_ns, s.st_ctime_ns]])
                    if len(found) > _MOST:
                        return None
    except OSError:  # a link to nowhere
        return None
    return found


def _read(path: Path) -> dict[str, Any]:
    """What was kept there; nothing where anything is wrong with it."""
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(2**20))
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = isinstance(kept, dict) and all(
        isinstance(pair, list) and [type(part) for part in pair] == [list, str]
        for pair in kept.values()
    )
    return kept if pairs else {}


def _write(path: Path, kept: dict[str, Any]) -> None:
    """Atomically; raises OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x") as file:
            json.dump(kept, file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
