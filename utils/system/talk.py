"""The one place where the program talks: nothing else writes to a stream, and nothing here fails.

A stream that is missing, closed or full, that nobody reads any more, or that cannot encode a
character costs text and no more. Control characters can only have come from names and files: they
are escaped. Bars, which need them, are made here too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from exps import progress
from exps.messages import printable, shown

LOG = logging.getLogger("sparse_syn")
LOG.addHandler(logging.NullHandler())  # without a log, nothing is said twice
_NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of a file's name that are no text
_warned: set[str] = set()


def say(text: str, *, quiet: bool = False) -> None:
    """Lines for standard output and for the log."""
    if not quiet:
        _write(text)
    LOG.info(text)


def say_path(path: Path, *, quiet: bool) -> None:
    """Where the result is: the last line of standard output, and if quiet nothing but the path."""
    _write(f"{'' if quiet else 'result: '}{path}", exact=True)
    LOG.info("result: %s", path)


def note(text: str) -> None:
    """Lines for standard error and for the log."""
    _write(text, error=True)
    LOG.info(text)


def warn(text: str) -> None:
    """A warning for both."""
    _write(f"warning: {text}", error=True)
    LOG.warning(text)


def fail(message: object, *, status: int) -> int:
    """An error for both; returns the exit status."""
    _write(f"error: {message}", error=True)
    LOG.error(message)
    return status


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Whatever fails in it is a warning that begins with `what`, once: it only looks on, or says
    something.
    """
    try:
        yield
    except Exception as error:
        if what not in _warned:
            _warned.add(what)
            reason = f"{type(error).__name__}: {shown(str(error), 300)}"
            warn(f"{what} ({reason}); all else goes on")
        LOG.debug(what, exc_info=True)


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Inside, whoever prints does it by way of this place; nor can the end of the process fail."""
    _warned.clear()
    _open_missing()
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            before = getattr(sys, name)  # None where there was none from the beginning
            stream = _Stream(before or stack.enter_context(Path(os.devnull).open("w")))
            stack.callback(setattr, sys, name, before)
            stack.callback(stream.flush)
            setattr(sys, name, stream)
        yield


def _open_missing() -> None:
    """Let no file that is opened later be taken for a standard stream that was closed before."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class _Stream:
    """A stream that takes any text, and loses it all from the first time on that it fails."""

    def __init__(self, stream: Any, *, raw: bool = False) -> None:
        """raw: with control characters."""
        self.stream, self.raw = stream, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._unfailing():
            self.stream.write(self._encodable(text if self.raw else printable(text)))
        return len(text)

    def write_exactly(self, text: str) -> None:
        """A line in which bytes that are no text here are as they were, if a script reads it."""
        buffer = None if self.isatty() else getattr(self.stream, "buffer", None)
        control = not _NO_TEXT.sub("", text).isprintable()
        if buffer is None or control or self._encodable(text) == text:
            line = text.replace("\n", "\\n")
            self.write(f"{line}\n")
            return
        with self._unfailing():
            self.stream.flush()
            buffer.write(os.fsencode(text) + b"\n")

    def flush(self) -> None:
        with self._unfailing():
            self.stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(self.stream.isatty())
        return False

    def _encodable(self, text: str) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    @contextlib.contextmanager
    def _unfailing(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # its reader is slow, and loses a line
            with contextlib.suppress(Exception):
                os.set_blocking(self.stream.fileno(), True)
        except Exception:
            with contextlib.suppress(Exception):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())  # takes what is in buffers, too
                os.close(nowhere)


def _safe(stream: Any) -> _Stream:
    return stream if isinstance(stream, _Stream) else _Stream(stream)


def _write(text: str, *, error: bool = False, exact: bool = False) -> None:
    """Lines above the bars that there may be."""
    stream = _safe(sys.stderr if error else sys.stdout)
    for bar in Bar.all_shown[:]:
        bar.do("clear")
    if exact:
        stream.write_exactly(text)
    else:
        stream.write(f"{text}\n")
    stream.flush()
    for bar in Bar.all_shown[:]:
        bar.do("refresh")


class Bar:
    """A progress bar if standard error is a terminal, otherwise nothing; one that fails is gone."""

    all_shown: ClassVar[list[Bar]] = []

    def __init__(self, what: str = "", *, quiet: bool = False, **options: Any) -> None:
        """what: stands before it; options: those of tqdm."""
        self.bar: Any = None
        stream = _safe(sys.stderr)
        if quiet or not stream.isatty():
            return
        with harmless("no progress is shown"):
            from tqdm import tqdm  # only where there are bars: it takes its time

            raw = _Stream(stream.stream, raw=True)
            whole = {"file": raw, "leave": False, "dynamic_ncols": True, **options}
            self.bar = tqdm(desc=printable(what), **whole)
            self.all_shown.append(self)

    @property
    def shown(self) -> bool:
        """Whether there is anything to be seen."""
        return self.bar is not None

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.do("update", count)

    def say(self, text: str) -> None:
        """Some words at its end."""
        self.do("set_postfix_str", printable(text))

    def reach(self, done: float) -> None:
        """So many are done now."""
        if self.bar is not None:
            self.bar.n = done
            self.do("refresh")

    def close(self) -> None:
        """It disappears."""
        self.do("close")
        self.bar = None
        if self in self.all_shown:
            self.all_shown.remove(self)

    def do(self, what: str, *arguments: Any) -> None:
        """Call this method of tqdm."""
        if self.bar is None:
            return
        worked = False
        with harmless("no progress is shown any more"):
            getattr(self.bar, what)(*arguments)
            worked = True
        if not worked:
            self.bar = None


progress.bars.append(Bar)
