"""Ctrl-C, SIGTERM, and a terminal that goes away: they end a run where nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

GRACE = 120  # seconds to end in order


class Stopped(BaseException):
    """The run was asked to end; no Exception, so that nothing takes it for a failure.

    in_training: by a second Ctrl-C, which waits for nothing.
    """

    def __init__(self, number: int, *, in_training: bool = False) -> None:
        super().__init__(number)
        self.number, self.in_training = number, in_training

    def __str__(self) -> str:
        if self.in_training:
            return "stopped at once: what the last checkpoint has is kept (see --list-runs)"
        return "interrupted before training began: nothing to keep"

    @property
    def status(self) -> int:
        """The exit status: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


class Signals:
    """Takes these signals from `with` to its end; SIGHUP counts as SIGTERM, but for `nohup`.

    Until `patient` is set, a signal raises Stopped at once. Then the first one is only noted in
    `received`, for the training loop to end after its step, and a second Ctrl-C raises Stopped.
    While `deaf` is set, nothing is raised.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = False
        self.deaf = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._take)
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                hang_up = signal.signal(signal.SIGHUP, lambda *_: self._take(signal.SIGTERM, None))
                self.before[signal.SIGHUP] = hang_up
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = number if self.received is None else self.received
        if self.deaf or (self.patient and not (again and number == signal.SIGINT)):
            return
        raise Stopped(number, in_training=self.patient)


def end_with_input() -> None:
    """Treat the end of standard input as SIGTERM: whoever started this process has gone.

    A process that has not ended a while after that is stuck, and ends at once.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        signal.raise_signal(signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="input", daemon=True).start()
