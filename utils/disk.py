"""What a file needs besides its contents."""

from __future__ import annotations

import contextlib
import os
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
