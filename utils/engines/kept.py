"""Functions that numba compiles once a machine, and keeps for later processes.

Imported only where numba is.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

from utils.system.talk import LOG

F = TypeVar("F", bound=Callable[..., Any])


class _Files(IndexDataCacheFile):
    """numba's, with names by which processes that compile at the same time get their own."""

    def save(self, key: Any, data: Any) -> None:
        """Keep what was compiled for a key."""
        name = sha256(repr(key).encode()).hexdigest()[:16]
        name = self._data_name_pattern.format(number=int(name, 16))
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class _Cache(FunctionCache):
    """numba's, of which a fault costs the time of compiling and nothing else."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file.__class__ = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled before for such arguments; None: compile it."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file raises whatever pickle does
            LOG.warning("a compiled loop cannot be read: %r", error)
            found = None
        if found is None:
            LOG.info("numba compiles %s, once", self._name)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it for other processes, if that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # of whatever kind the file system's fault is
            LOG.warning("a compiled loop cannot be kept: %r", error)


def kept(function: F, **options: Any) -> F:
    """The function compiled with these options of numba's, in which other threads may go on."""
    made: Any = njit(nogil=True, **options)(function)
    try:
        made._cache = _Cache(function)
    except RuntimeError as error:  # there is no folder to write to
        LOG.warning("compiled loops cannot be kept: %s", error)
    return made
