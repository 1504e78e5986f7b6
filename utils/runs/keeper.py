"""Keeps a run safe while it trains: writes its checkpoints, and ends it when it is asked to."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.system.failures import is_out_of_memory
from utils.system.signals import Signals, Stopped
from utils.system.talk import LOG, say, warn

Checkpoint = tuple[dict[str, Any], dict[str, Any]]  # facts and tree
Written = tuple[Path, int, float]  # its bytes, and the processor seconds that writing it took


class Keeper:
    """Called after every step: see `run_stream`'s `keep`.

    A checkpoint is copied between two steps and written beside the training by a thread, one at a
    time; where one is due while another is being written, it is copied when that is done. When it
    cannot be written, a warning says so, the one before stays, and the run goes on. Raises Stopped
    after a signal, with the checkpoint on the disk.
    """

    def __init__(
        self,
        take: Callable[[], Checkpoint],
        write: Callable[[dict[str, Any], Any], tuple[Path, int]],
        every: float,
        signals: Signals,
    ) -> None:
        """every: seconds between checkpoints within a task; 0: only when a task is done."""
        self.take, self.write, self.every, self.signals = take, write, every, signals
        self.last = time.monotonic()
        self.failing = self.owed = False
        # How many were written, and what it cost: seconds in which training stood still, and
        # processor seconds spent beside it (waiting for the disk takes none).
        self.costs = {"written": 0, "seconds": 0.0, "seconds_beside": 0.0}
        self.outcomes: deque[Written | Exception] = deque()
        self._next: Checkpoint | None = None
        self._busy = self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="checkpoints", daemon=True).start()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Drop what has not been begun; wait for the rest, but after a second Ctrl-C."""
        with self._changed:
            self._ended, self._next = True, None
            self._changed.notify_all()
            if not (isinstance(error, Stopped) and error.in_training):
                self._changed.wait_for(lambda: not self._busy)
        self._look()

    def __call__(self, done: bool) -> None:
        """Write a checkpoint if a task is done or it is time; end the run if that was asked for."""
        if self.outcomes:
            self._look()
        if self.signals.received is not None:
            self.save()
            self.flush()
            raise Stopped(self.signals.received)
        self.owed |= done or (self.every > 0 and time.monotonic() - self.last >= self.every)
        if self.owed and not self._busy:
            self.save()

    def save(self) -> None:
        """Copy a checkpoint and have it written."""
        began = time.monotonic()
        try:
            checkpoint = self.take()
            with self._changed:
                self._next, self._busy = checkpoint, True
                self._changed.notify_all()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._failed("there is not enough memory for a copy of the state")
        self.last, self.owed = time.monotonic(), False
        self.costs["seconds"] += self.last - began

    def flush(self) -> None:
        """Wait until what was saved is on the disk, or has failed to get there."""
        began = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        self.costs["seconds"] += time.monotonic() - began
        self._look()

    def _look(self) -> None:
        """Say what has become of the checkpoints."""
        while self.outcomes:
            outcome = self.outcomes.popleft()
            if isinstance(outcome, OSError):
                self._failed(outcome.strerror or str(outcome))
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                self.costs["written"] += 1
                self.costs["seconds_beside"] += outcome[2]
                LOG.debug("checkpoint %s: %d bytes in %.3f s", *outcome)
                if self.failing:
                    say("checkpoints can be written again")
                self.failing = False

    def _failed(self, reason: str) -> None:
        if not self.failing:
            warn(
                f"no checkpoint could be written ({reason}): the one before is kept and the run"
                " goes on, but what follows would be lost with the process"
            )
        LOG.debug("a checkpoint failed: %s", reason)
        self.failing = True

    def _work(self) -> None:
        """The thread that writes."""
        while not self._ended:
            with self._changed:
                self._busy = self._next is not None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._next is not None or self._ended)
                checkpoint, self._next = self._next, None
            if checkpoint is not None:
                began = time.thread_time()
                try:
                    path, size = self.write(*checkpoint)
                    self.outcomes.append((path, size, time.thread_time() - began))
                except Exception as error:  # raised again, or told, where the run is
                    self.outcomes.append(error)
        with self._changed:
            self._busy = False
            self._changed.notify_all()
