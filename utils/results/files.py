"""Result files: a pickle of `[config, stats]`, written atomically, read without running it."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import re
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from exps.messages import Told, shown
from exps.sizes import MAX_RESULT as MAX_BYTES
from utils.results.plain_data import NotPlainError, plain
from utils.results.unpickler import loads
from utils.system.disk import sync_folder

# With date, seed and suffix below 143 characters, what the narrowest file systems take.
_MAX_NAME = 80


class ResultsError(Told):
    """A result that cannot be written or read: what is wrong, where, and what to do."""


def save_results(
    results_dir: Path, config: dict[str, Any], stats: dict[str, Any], *, run: str
) -> Path:
    """Write `[config, stats]` to `results_dir/<run>.pkl`; returns the path.

    run: the name of the run, see `result_name`; what the same run (`meta` names it) left there
    before is replaced.

    A notebook loads it with pickle and numpy alone. The file appears complete or not at all, and
    never takes the name of another: a second run in the same second gets `_2`. `on_idxs`, by far
    the largest part, is written in 32 bits where its counts fit. Raises ResultsError for values
    that are not plain Python or numpy (see `plain_data.plain`), naming them, and for a folder that
    cannot be written.
    """
    payload = _pickle(config, stats, run)
    with os_errors_explained(results_dir):
        results_dir.mkdir(parents=True, exist_ok=True)
        with temporary_file(results_dir, payload) as temporary:
            path = results_dir / f"{run}.pkl"
            if _is_part_of(path, run):
                temporary.replace(path)
            else:
                path = _publish(temporary, path)
        sync_folder(results_dir)
        return path


def result_name(name: str, seed: int, when: datetime) -> str:
    """The name of a result, without suffix: <name>_<date>_<time>_s<seed>. Whatever is not an ASCII
    letter, digit, `_`, `+` or `-` becomes `_`: nothing in it leaves the folder, and it is a name
    for every system; the date behind it keeps it off names like CON.
    """
    part = re.sub(r"[^A-Za-z0-9_+-]", "_", name)[:_MAX_NAME].lstrip("-") or "experiment"
    return f"{part}_{when:%Y-%m-%d_%H-%M-%S}_s{seed}"


def check_writable(results_dir: Path) -> None:
    """Make the folder if it is missing; raises ResultsError when nothing can be written there."""
    with os_errors_explained(results_dir):
        results_dir.mkdir(parents=True, exist_ok=True)
        with temporary_file(results_dir, b"."):
            pass


def load_results(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `(config, stats)` in a result file, of today or of 2019 (config of strings then).

    Raises ResultsError for a file that is missing, damaged or holds anything but plain data;
    nothing in it is run, whatever it is.
    """
    try:
        result = loads(_read(Path(path)))
    except NotPlainError as error:
        raise _unreadable(path, str(error)) from error
    except MemoryError as error:
        raise _unreadable(path, "it needs more memory than there is") from error
    if type(result) is not list or [type(part) for part in result] != [dict, dict]:
        raise _unreadable(path, "it holds something other than [config, stats]")
    config, stats = result
    return config, stats


def _pickle(config: dict[str, Any], stats: dict[str, Any], run: str) -> bytes:
    for what, part in (("config", config), ("stats", stats)):
        if type(part) is not dict:
            raise ResultsError(f"result {run!r}: {what} is a {type(part).__name__}: give a dict")
    try:
        parts = [_plain_part("config", config), _plain_part("stats", _in_32_bits(stats))]
        with _names_of_numpy_1():
            payload = pickle.dumps(parts, protocol=4)
        if len(payload) > MAX_BYTES:
            raise NotPlainError(f"larger than {MAX_BYTES >> 20} MiB")
        loads(payload)  # what is written can be read back
    except NotPlainError as error:
        raise ResultsError(
            f"result {run!r} not written: {error}; keep to plain Python and numpy numbers"
        ) from error
    return payload


def _in_32_bits(stats: dict[str, Any]) -> dict[str, Any]:
    """The same with `on_idxs` as int32, where it is an array of counts that fit."""
    counts = stats.get("on_idxs")
    if type(counts) is not np.ndarray or counts.dtype != np.int64:
        return stats
    fits = counts.min(initial=0) >= -(2**31) and counts.max(initial=0) < 2**31
    return stats | {"on_idxs": counts.astype(np.int32)} if fits else stats


@contextlib.contextmanager
def _names_of_numpy_1() -> Iterator[None]:
    """Inside, arrays and numbers are pickled under the names that numpy 1 has for what makes them.

    numpy 2 keeps these two, `numpy.core.multiarray._reconstruct` and `.scalar`, for pickles and
    without a warning; its own names, of `numpy._core`, are unknown to numpy 1.
    """
    makers: Any = [sample.__reduce__()[0] for sample in (np.empty(0), np.float64())]
    own = [maker.__module__ for maker in makers]
    try:
        for maker in makers:
            maker.__module__ = "numpy.core.multiarray"
        yield
    finally:
        for maker, module in zip(makers, own, strict=True):
            maker.__module__ = module


def _plain_part(what: str, part: dict[str, Any]) -> Any:
    try:
        return plain(part)
    except NotPlainError as error:
        error.place = what + error.place
        raise


def _is_part_of(path: Path, run: str) -> bool:
    """Whether this is what the run has left: early, or just before its folder was removed."""
    try:
        meta = load_results(path)[1].get("meta")
    except ResultsError:
        return False
    return isinstance(meta, dict) and meta.get("run") == run


@contextlib.contextmanager
def temporary_file(folder: Path, payload: bytes) -> Iterator[Path]:
    """A file with these contents, safely on the disk; gone afterwards whatever happens."""
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> Path:
    """Give the file this name, or the first behind it that is free."""
    stem, number = path.stem, 1
    while True:
        try:
            _take_name(temporary, path)
            return path
        except FileExistsError:
            number += 1
            path = path.with_name(f"{stem}_{number}.pkl")


def _take_name(temporary: Path, path: Path) -> None:
    """Put the file under this name in one step; raises FileExistsError when the name is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        # No hard links on this file system: reserve, then replace.
        path.touch(exist_ok=False)
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink()
            raise


@contextlib.contextmanager
def os_errors_explained(folder: Path) -> Iterator[None]:
    """Turn OSError into ResultsError, with what to do."""
    try:
        yield
    except OSError as error:
        full = errno.errorcode.get(error.errno or 0) in ("ENOSPC", "EDQUOT")
        advice = "make room there" if full else "make it a folder that can be written"
        raise ResultsError(
            f"{folder}: results cannot be written there",
            error.strerror or str(error),
            f"{advice}, or choose another with --results-dir",
        ) from error


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ResultsError(f"{shown(str(path), 400)}: no such result file; check the name")
        if not path.is_file():
            raise _unreadable(path, "it is not a file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise _unreadable(path, f"it is larger than {MAX_BYTES >> 20} MiB")
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error
    if not data:
        raise _unreadable(path, "it is empty")
    return data


def _unreadable(path: str | os.PathLike[str], why: str) -> ResultsError:
    return ResultsError(
        f"{shown(os.fspath(path), 400)}: not a result file that can be read: {shown(why, 400)};"
        " nothing in it was run, use another copy or repeat the experiment"
    )
