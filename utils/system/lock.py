"""A lock that a process holds on a run, and that ends with the process however it ends."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
from io import FileIO
from pathlib import Path
from typing import Any

from utils.system.disk import open_own
from utils.system.talk import LOG

MAX_BYTES = 1000


class LockedError(Exception):
    """Another process holds the lock; the text names its host and process."""


def take_lock(path: Path) -> FileIO:
    """The lock, held until it is closed. The file says who holds it, or held it last.

    The operating system gives the lock back when the process ends, be it by kill -9, so there is
    no stale lock; network file systems pass it on to other hosts. Raises LockedError when another
    process holds it, OSError when there can be no lock.
    """
    lock = FileIO(open_own(path, os.O_RDWR | os.O_CREAT), "r+")
    try:
        if not _take(lock.fileno()):
            raise LockedError(f"running on {_owner(lock.fileno())}")
        if not _is_at(lock.fileno(), path):
            raise LockedError("it has just been finished by another process")
        lock.truncate(0)
        owner = {"host": platform.node(), "process": os.getpid()}
        lock.write(json.dumps(owner).encode())
    except BaseException:
        lock.close()
        raise
    return lock


def holder(path: Path) -> str | None:
    """Who holds the lock now: its host and process; None when nobody does."""
    try:
        lock = FileIO(open_own(path, os.O_RDWR), "r+")
    except OSError:
        return None
    with lock:
        return None if _take(lock.fileno()) else _owner(lock.fileno())


def _owner(handle: int) -> str:
    """The host and process in a lock file."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        owner: Any = json.loads(os.read(handle, MAX_BYTES))
        return f"host {str(owner['host'])[:100]!r}, process {int(owner['process'])}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "an unknown host"


def _is_at(handle: int, path: Path) -> bool:
    """Whether the file is still under this name: who finishes a run removes its lock."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        """Lock a byte far behind the text, which others must be able to read."""
        os.lseek(handle, MAX_BYTES, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            LOG.warning("this file system has no locks: see to it that no run is resumed twice")
        return True
