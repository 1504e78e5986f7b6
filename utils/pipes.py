"""Outputs that nobody reads any more, such as those of `| head`: the work goes on without them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe, a terminal


class _Patient:
    """A stream whose text goes nowhere from the time on that nobody can read it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._survived():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._survived():
            self._stream.flush()

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # takes what is in buffers, too
            os.close(nowhere)


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """Inside, and at the end of the process, a reader that has gone is no error."""
    before: Any = sys.stdout, sys.stderr  # None where there was none from the beginning
    after: Any = [stream and _Patient(stream) for stream in before]
    sys.stdout, sys.stderr = after
    try:
        yield
    finally:
        for stream in filter(None, after):
            stream.flush()
        sys.stdout, sys.stderr = before
