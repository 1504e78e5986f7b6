"""TensorBoard: what was measured as scalars, duty cycles as histograms, the matrix as an image.

Events are made by `torch.utils.tensorboard` and written here, a moment at a time: its own writer
has a thread that dies with a traceback when the disk is full. The step of all is the number of
epochs, so that a run that is gone on with can take back what came after its checkpoint.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.live.append import append, require_still_there, require_writable
from utils.system.disk import require_no_link
from utils.training.listener import EpochDone, LiveError, Moment, TaskTested, WithinTested

WITHIN = "within"  # the folder below a run's for the tests within tasks
WAITING = 1000  # moments that are kept while nothing can be written


def check(folder: Path) -> None:
    """Raise LiveError unless TensorBoard is installed and the folder can be written."""
    try:
        importlib.import_module("torch.utils.tensorboard")
        importlib.import_module("utils.live.picture")  # before there are threads, see `canvas`
    except ImportError as error:
        raise LiveError(
            "--tensorboard: TensorBoard is not installed",
            str(error),
            "install it with pip install -r requirements-tensorboard.txt, or use --csv",
        ) from error
    try:
        require_writable(folder)
    except OSError as error:
        why = f"it cannot be written ({error.strerror or error})"
        raise LiveError(f"--tensorboard {folder}", why, "name another folder") from error


class Board:
    """The event files of one run, in a folder of its own below that of all runs."""

    takes: tuple[type, ...] = (EpochDone, TaskTested)

    def __init__(self, folder: Path, run: str, about: str, *, together: bool = False) -> None:
        """about: of the run, as Markdown; '' for nothing. together: whether all tasks are trained
        as one."""
        self.path = folder / run
        self.about, self.together = about, together
        self.file: Path | None = None
        self.purge = 0  # events of this step and later ones that are there do not count
        self.waiting: deque[bytes] = deque(maxlen=WAITING)

    def begin(self, past: Sequence[Moment], resumed: Moment | None) -> None:
        """Go on behind what is there; where there is nothing, tell all of the past but its duty
        cycles, which are not kept."""
        past = [moment for moment in past if isinstance(moment, self.takes)]
        if self._newest() is None:
            for moment in past:
                self.add(moment)
        elif resumed is not None:
            self.purge = resumed.number
            self.add(resumed)
        elif past:
            self.purge = past[-1].number + 1

    def add(self, moment: Moment) -> None:
        """All events of this moment, if it is one for here."""
        if isinstance(moment, self.takes):
            self.waiting.append(_records(*self._summaries(moment), step=moment.number))

    def _summaries(self, moment: Moment) -> list[Any]:
        if isinstance(moment, WithinTested):
            return _of_row(moment.row, moment.row if self.together else moment.row[: moment.task])
        return _of_epoch(moment) if isinstance(moment, EpochDone) else _of_tests(moment)

    def write(self) -> None:
        """Add the events that wait to the file. Raises OSError."""
        from torch.utils.tensorboard.summary import text

        if self.file is not None:
            file, self.file = self.file, None  # begun anew next time if it has vanished
            require_still_there(file)
        else:
            require_no_link(self.path)  # its name is the run's, so it may come with the results
            file = self._new_file()
            first = [] if self._newest() or not self.about else [text("configuration", self.about)]
            append(file, _head(self.purge) + _records(*first, step=0))
        self.file = file
        append(file, b"".join(self.waiting))
        self.waiting.clear()

    def _new_file(self) -> Path:
        """A name behind all that are there, for they are read in the order of their names."""
        newest = self._newest()
        now = int(time.time())
        if newest is not None:
            now = max(now, 1 + int(newest.name.split(".")[3]))
        name = f"events.out.tfevents.{now:010d}.{socket.gethostname()}.{os.getpid()}"
        return self.path / name

    def _newest(self) -> Path | None:
        pattern = r"events\.out\.tfevents\.[0-9]{10}\..*"
        found = [p for p in self.path.glob("events.*") if re.fullmatch(pattern, p.name)]
        return max(found, default=None)


class StepBoard(Board):
    """The tests within tasks: their step is that of the run, so they are a run of their own."""

    takes = (WithinTested,)

    def begin(self, past: Sequence[Moment], resumed: Moment | None) -> None:
        """Go on behind what is there."""
        super().begin(past, None)


def _of_epoch(moment: EpochDone) -> list[Any]:
    from torch.utils.tensorboard.summary import histogram, scalar

    summaries = [
        scalar("train/loss", moment.loss),
        scalar("train/accuracy", moment.accuracy),
        *(scalar(f"entropy/{name}", bits) for name, bits in moment.entropy.items()),
    ]
    for name, duty in moment.duty_cycles.items():
        bins = np.linspace(0, max(duty.max(), 1e-6), 51).tolist()
        summaries.append(histogram(f"duty_cycle/{name}", duty, bins=bins))
    if not np.isnan(moment.active):
        summaries.append(scalar("train/active_percent", moment.active))
    return summaries


def _of_row(row: np.ndarray, seen: np.ndarray) -> list[Any]:
    """Accuracies on tasks now, and those on the tasks so far."""
    from torch.utils.tensorboard.summary import scalar

    return [
        scalar("test/mean_accuracy", np.nanmean(row)),
        scalar("test/mean_accuracy_of_tasks_seen", seen.mean()),
        *(scalar(f"test_by_task/task_{i + 1}", a) for i, a in enumerate(row) if not np.isnan(a)),
    ]


def _of_tests(moment: TaskTested) -> list[Any]:
    from torch.utils.tensorboard.summary import image

    from utils.live.picture import accuracy_picture  # matplotlib takes its time

    row, together = moment.row, len(moment.accs) == 1
    seen = row if together else row[: moment.task]
    return [
        *_of_row(row, seen),
        image("test/accuracy_matrix", accuracy_picture(moment.matrix()), dataformats="HWC"),
    ]


def _records(*summaries: Any, step: int) -> bytes:
    return b"".join(_record(step=step, summary=summary) for summary in summaries)


def _head(purge: int) -> bytes:
    """What an event file begins with: of which version it is, and what before it does not count."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    version = _record(file_version="brain.Event:2")
    return version + _record(step=purge, session_log=SessionLog(status=SessionLog.START))


def _record(**event: Any) -> bytes:
    """An event as it stands in a file, with its length and checksums."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    written = io.BytesIO()
    RecordWriter(written).write(Event(wall_time=time.time(), **event).SerializeToString())
    return written.getvalue()
