"""The log of a run: what it says to people, with times, and tracebacks.

Before the run has a name, and so a file, what is said is kept in memory.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import tempfile
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

from exps.messages import printable, shown_path
from utils.system.disk import open_own
from utils.system.talk import LOG, warn

KEPT = 10_000  # messages in memory


class RunLog:
    """Takes everything that is logged from `with` to its end, warnings of libraries included."""

    def __init__(self, level: str) -> None:
        self.level = level.upper()
        self.memory = logging.handlers.MemoryHandler(KEPT, flushLevel=logging.CRITICAL + 1)
        self.file: _File | None = None

    def __enter__(self) -> RunLog:
        self.before = LOG.level, LOG.propagate, warnings.showwarning
        LOG.setLevel(self.level)
        LOG.propagate = False
        LOG.addHandler(self.memory)
        warnings.showwarning = _show_warning
        return self

    def __exit__(self, *_: object) -> None:
        level, LOG.propagate, warnings.showwarning = self.before
        LOG.setLevel(level)
        LOG.removeHandler(self.memory)
        if self.file is not None:
            LOG.removeHandler(self.file)

    @property
    def path(self) -> Path | None:
        """The file, once there is one."""
        return self.file.path if self.file else None

    def open_anywhere(self, folder: Path) -> Path | None:
        """Keep what was said although there is no run: in the folder, or where files can be."""
        name = f"error_{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}.log"
        for place in (folder, Path(tempfile.gettempdir())):
            try:
                (place / name).touch(exist_ok=False)
            except OSError:
                continue
            self.open(place / name)
            return place / name
        return None

    def open(self, path: Path) -> None:
        """From now on the file has it all, what was said before included."""
        self.file = _File(path)
        LOG.addHandler(self.file)
        LOG.removeHandler(self.memory)
        self.memory.setTarget(self.file)
        self.memory.flush()
        self.memory.setTarget(None)


class _File(logging.Handler):
    """Opened for every message: a folder that vanishes or fills up costs some lines, no more."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.told = False
        form = "%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"
        self.setFormatter(logging.Formatter(*form))

    def format(self, record: logging.LogRecord) -> str:
        """Every line with its time; those that belong to one message stay together."""
        return printable(super().format(record)).replace("\n", f"\n{' ' * 28}")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            handle = open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.format(record) + "\n")
        except Exception as error:
            if not self.told:
                self.told = True
                reason = getattr(error, "strerror", None) or error
                warn(f"{shown_path(self.path)}: no log can be written ({reason})")


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    warn(str(message))
    LOG.debug("%s at %s:%d", category.__name__, filename, lineno)
