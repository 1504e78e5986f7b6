"""What a file needs besides its contents; and files in folders that others may have filled.

An archive brings links, pipes and whatever else there is. What is written here goes into the
folder, or nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make a new name in the folder survive a power cut, where folders can be synchronised.

    The file itself is complete by then: a folder that cannot be opened or synchronised (some
    network shares) is no reason to report it as lost.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def open_own(path: Path, flags: int) -> int:
    """A handle of an ordinary file with no other name, made where it is missing (with O_CREAT).

    Raises OSError for a link, a file that is linked to from elsewhere, a pipe and everything else,
    with nothing changed, and without waiting for anybody.
    """
    with contextlib.suppress(FileNotFoundError):
        _require_own(path, path.lstat())
    # What has changed since then: a link is not followed, and a pipe not waited for.
    names = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
    handle = os.open(path, flags | sum(getattr(os, name, 0) for name in names), 0o644)
    try:
        _require_own(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def write_own(path: Path, data: bytes) -> None:
    """Put a file with these contents under this name, in one step, whatever is there already.

    Raises OSError.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_own(*folders: Path) -> None:
    """Make these folders, and what they lie in, where they are missing; raises OSError if one of
    them is a link."""
    for folder in folders:
        require_no_link(folder)
        folder.mkdir(parents=True, exist_ok=True)


def require_no_link(*paths: Path) -> None:
    """Raise OSError if one of these is a link, be it to nothing."""
    for path in paths:
        if path.is_symlink():
            raise _foreign(path, "a link, which is not followed")


def _require_own(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise _foreign(path, "a link, which is not followed")
    if stat.S_ISDIR(found.st_mode):
        raise _foreign(path, "a folder")
    if not stat.S_ISREG(found.st_mode):
        raise _foreign(path, "no ordinary file")
    if found.st_nlink > 1:
        raise _foreign(path, "a file that has another name elsewhere")


def _foreign(path: Path, what: str) -> OSError:
    return OSError(errno.EINVAL, f"{path.name} is {what}", str(path))
