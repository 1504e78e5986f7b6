"""Adding to a file that others read meanwhile: a whole piece or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from utils.system.disk import open_own


def append(path: Path, data: bytes) -> None:
    """Add the data to the end of the file, which is made where it is missing. Raises OSError.

    A part of it that came through before a disk was full is taken back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(handle, "ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(start)
            raise


def replace(path: Path, data: bytes) -> None:
    """Put the data in the place of the file's in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        append(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Make the folder if it is missing; raises OSError when nothing can be written there."""
    probe = folder / f".{secrets.token_hex(8)}.tmp"
    append(probe, b"a trial")
    probe.unlink()


def require_still_there(path: Path) -> None:
    """Raise FileNotFoundError when a file that was written before is gone."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "it has vanished", str(path))
