"""The digest of the pictures and labels that a run uses: a part of what the run is.

It is taken over the arrays, so the same pictures have the same digest wherever they come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.datasets import BUNDLED_DATA, DEFAULT_DIR, load_arrays
from benchmarks.formats import Arrays, DataError, Dataset, channels_first
from exps import ahead, plugins
from exps.plugins import is_path

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

CACHE = ".sparse-syn-digests.json"  # beside the data
_STEP = 1000  # pictures at a time
_MOST = 1000  # files that are looked at to see that nothing has changed
_BUNDLED = {f"{name} (bundled)": digest for name, digest in BUNDLED_DATA.items()}  # by source
_SETTLED = 2 * 10**9  # nanoseconds after which a change must show in the times of a file


def of_stream(stream: TaskStream) -> str:
    """SHA-256 over all pictures and labels of a stream whose pictures are on the CPU."""
    train, test = stream.train, stream.test
    return _digest(train.x.numpy(), train.y.numpy(), test.x.numpy(), test.y.numpy())


def of_arrays(arrays: Arrays, names: Sequence[str] = ()) -> str:
    """The same for the arrays that a stream is made of: its pictures have their channels first.
    names: of the classes, which count where they are not their numbers."""
    x_train, x_test = map(channels_first, (arrays.x_train, arrays.x_test))
    found = _digest(x_train, arrays.y_train, x_test, arrays.y_test)
    if list(names) == [str(n) for n in range(len(names))]:
        return found
    return hashlib.sha256(json.dumps([found, *names]).encode()).hexdigest()


def of_experiment(exp: Experiment) -> str:
    """The same for the data of an experiment, without torch where its benchmark says by DATASET
    which they are; '' where they are not here (nothing is downloaded) or cannot be used.
    """
    try:
        dataset: Dataset | None = exp.dataset
        if found := plugins.said(plugins.BENCHMARK, exp.benchmark, "data_digest", exp.in_effect):
            return str(found)
        if dataset is None:
            from benchmarks import make_stream

            return make_stream(exp).data
        if exp.data == "sample" and dataset.sample:
            return BUNDLED_DATA[dataset.sample]
        folder = Path(exp.data_dir).expanduser()
        looks = _looks(folder, dataset)
        if dataset.bundled and looks == [] and folder == DEFAULT_DIR:
            return BUNDLED_DATA[dataset.bundled]  # no place comes before it
        return _known(dataset, folder, looks) or load(dataset, folder, fetch=False)[1]
    except (DataError, OSError, RuntimeError, ValueError):  # the run itself says what is wrong
        return ""


def load(
    dataset: Dataset, data_dir: Path, sample: bool = False, *, fetch: bool = True
) -> tuple[Arrays, str]:
    """`load_arrays`, and their digest, which is taken anew only when any file there has changed."""
    return ahead.result(_load, dataset, data_dir, sample, fetch)


def begin_to_load(exp: Experiment) -> None:
    """Begin what the benchmark of an experiment will `load`, where it is one of the project's that
    needs no torchvision for it, with which torch comes."""
    dataset: Dataset | None = None if is_path(exp.benchmark) else exp.dataset
    sample = exp.data == "sample"
    if dataset is not None and (sample or dataset.bundled):
        ahead.begin(_load, dataset, Path(exp.data_dir), sample, True)


def _load(dataset: Dataset, data_dir: Path, sample: bool, fetch: bool) -> tuple[Arrays, str]:
    folder = data_dir
    with contextlib.suppress(RuntimeError):  # nobody's home: load_arrays says so
        folder = data_dir.expanduser()
    before = None if sample else _looks(folder, dataset)
    arrays = load_arrays(dataset, data_dir, sample, fetch=fetch)
    if arrays.source in _BUNDLED:
        return arrays, _BUNDLED[arrays.source]
    same = before == _looks(folder, dataset)
    if same and (known := _known(dataset, folder, before)):
        return arrays, known
    digest = of_arrays(arrays)
    settled = before and time.time_ns() - max(max(times) for *_, times in before) > _SETTLED
    if same and settled:
        with contextlib.suppress(OSError):
            _write(folder / CACHE, _read(folder / CACHE) | {dataset.name: [before, digest]})
    return arrays, digest


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


def _known(dataset: Dataset, folder: Path, looks: list[Any] | None) -> str:
    """The digest of a data set below `folder`, kept from when its files looked the same; or ''."""
    kept = _read(folder / CACHE).get(dataset.name, [None, ""])
    return str(kept[1]) if looks and kept[0] == looks else ""


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
    except (OSError, ValueError):  # a link to nowhere; no name of a file
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
