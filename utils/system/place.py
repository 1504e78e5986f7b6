"""Where the process is that trains several seeds together: what the runs in it are told."""

from __future__ import annotations

import os
from typing import NamedTuple

ADDRESS, KEY = "SPARSE_SYN_COMPANY", "SPARSE_SYN_COMPANY_KEY"  # in the environment of a run
SIZE = "SPARSE_SYN_COMPANY_SIZE"


class Place(NamedTuple):
    """The address of a socket, what proves that one was told it, and the number of seeds there."""

    address: str
    key: bytes
    size: int = 1

    def environment(self) -> dict[str, str]:
        """What a process is told it by."""
        return {ADDRESS: self.address, KEY: self.key.hex(), SIZE: str(self.size)}


def place() -> Place | None:
    """What this process was told, if it was."""
    if ADDRESS not in os.environ:
        return None
    return Place(os.environ[ADDRESS], bytes.fromhex(os.environ[KEY]), int(os.environ[SIZE]))
