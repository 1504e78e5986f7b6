"""A file for those who tail it: a line an epoch, and one for all tests at a time."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exps.messages import shown
from utils.live.append import append, replace, require_still_there, require_writable
from utils.system import times
from utils.system.disk import open_own
from utils.training.listener import EpochDone, LiveError, Moment, WithinTested

# What no two lines have in common; `step` is there only where tests are within tasks.
KEY = ("run", "what", "task", "epoch")
STEP = "step"
MEASURED = ("loss", "train_acc", "perc_on_avg")


def columns(layers: Sequence[str], tasks: int, *, within: bool = False) -> list[str]:
    """The names of all columns: of a run with these k-winner layers and so many tasks; within:
    with tests within tasks."""
    entropy = [f"entropy_{name}" for name in layers]
    accs = [f"acc_{i + 1}" for i in range(tasks)]
    return [*KEY, *[STEP] * within, "time", *MEASURED, *entropy, "mean_acc", *accs]


def file_of(wanted: str, run: str) -> Path:
    """The file that --csv stands for: one of the run's own in a folder, or else just that one,
    which may be a link, as the user names it."""
    if _is_folder(wanted):
        return Path(wanted) / f"{run}.csv"
    return Path(wanted).resolve() if Path(wanted).is_symlink() else Path(wanted)


def check(wanted: str, names: list[str]) -> None:
    """Raise LiveError unless lines with these columns can be added to what --csv names."""
    try:
        first = b"" if _is_folder(wanted) else _first_line(Path(wanted))
        require_writable(Path(wanted) if _is_folder(wanted) else Path(wanted).parent)
    except OSError as error:
        why = f"it cannot be written ({error.strerror or error})"
        raise LiveError(f"--csv {wanted}", why, _OTHER) from error
    if first and _parsed(first) != names:
        there = shown(first.decode(errors="replace").strip(), 100)
        raise LiveError(f"--csv {wanted}", f"the file has other columns: {there}", _OTHER)


def _is_folder(wanted: str) -> bool:
    return Path(wanted).is_dir() or wanted.endswith(("/", os.sep))


def _first_line(path: Path) -> bytes:
    """Of a file that can be added to; nothing of one that is not there. Raises OSError."""
    if not path.exists():
        return b""
    if not path.is_file():
        raise OSError(errno.EINVAL, "not an ordinary file")
    with path.open("r+b") as file:
        return file.readline()


_OTHER = "name another file, or a folder (with a / behind it) for a file of each run"


class CsvFile:
    """The lines of one run, in a file that may have those of other runs too."""

    def __init__(self, path: Path, run: str, names: list[str]) -> None:
        self.path, self.run, self.names = path, run, names
        self.key = len(KEY) + (STEP in names)  # the cells of it
        self.lines: list[bytes] = []  # of this run, all that there should be
        self.on_disk = 0  # how many of them are
        self.begun = False

    def begin(self, past: Sequence[Moment], resumed: Moment | None) -> None:
        """Keep the lines of the past that are in the file, and make those that are not."""
        found = {_key(line, self.key): line for line in self._lines()}
        cells = [self._cells(moment) for moment in past]
        self.lines = [found.get(tuple(new[: self.key])) or _line(new) for new in cells]

    def add(self, moment: Moment) -> None:
        """A line more."""
        self.lines.append(_line(self._cells(moment)))

    def write(self) -> None:
        """Add the lines that are not in the file yet. Raises OSError."""
        if self.begun:
            self.begun = self.path.exists()
            require_still_there(self.path)
            append(self.path, b"".join(self.lines[self.on_disk :]))
        else:
            self._begin_file()
            self.begun = True
        self.on_disk = len(self.lines)

    def _begin_file(self) -> None:
        """The lines of others, and then those of this run and no more."""
        before = self._contents()
        others = [line for line in self._lines() if _key(line, self.key)[0] != self.run]
        after = b"".join([_line(self.names), *others, *self.lines])
        if after.startswith(before):  # others may be adding to it too
            append(self.path, after[len(before) :])
        else:
            replace(self.path, after)

    def _lines(self) -> list[bytes]:
        """All whole lines of the file but the first, which has the columns' names."""
        lines = self._contents().splitlines(keepends=True)[1:]
        return [line for line in lines if line.endswith(b"\n")]

    def _contents(self) -> bytes:
        """Of the file, if it is there. Raises OSError for what is no file of the folder's own."""
        with (
            contextlib.suppress(FileNotFoundError),
            os.fdopen(open_own(self.path, os.O_RDONLY), "rb") as file,
        ):
            return file.read()
        return b""

    def _cells(self, moment: Moment) -> list[str]:
        values: dict[str, Any] = {"run": self.run, "task": moment.task, "epoch": moment.epoch}
        values["time"] = times.as_text(times.now())
        if isinstance(moment, EpochDone):
            measured = (moment.loss, moment.accuracy, moment.active)
            values |= {"what": "epoch", **dict(zip(MEASURED, measured, strict=True))}
            values |= {f"entropy_{name}": bits for name, bits in moment.entropy.items()}
        else:
            accs = moment.row.tolist()
            tested = [acc for acc in accs if not math.isnan(acc)]
            values |= {"what": "test", "mean_acc": sum(tested) / len(tested)}
            if isinstance(moment, WithinTested):
                values |= {"what": "within", STEP: moment.step}
            values |= {f"acc_{i + 1}": acc for i, acc in enumerate(accs)}
        return [_cell(values.get(name, "")) for name in self.names]


def _cell(value: Any) -> str:
    """A number with six digits, as none where it is NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _parsed(line: bytes) -> list[str]:
    return next(csv.reader([line.decode(errors="replace").rstrip("\r\n")]), [])


def _key(line: bytes, count: int) -> tuple[str, ...]:
    """The first cells, which no two lines have in common; '' for all of a line that has too few."""
    cells = _parsed(line)[:count]
    return tuple(cells) if len(cells) == count else ("",) * count
