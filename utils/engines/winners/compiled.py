"""The seam between the sparse engine and its compiled loops: where numba is, they are taken."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from utils.system.talk import LOG

Array = np.ndarray[Any, Any]


def loops() -> Any:
    """The module of compiled loops; None without numba: torch's operations do the same."""
    return _found()


@cache
def _found() -> Any:
    try:
        with _in_a_hurry():
            from utils.engines.winners import loops as found

            found.load()
    except ImportError as error:
        LOG.info("the sparse engine is not compiled: %s", error)
        return None
    return found


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    """numba is imported in half of the time without collections of garbage, of which there is none,
    and without SciPy's linear algebra, which no loop uses."""
    collects, unused = gc.isenabled(), "scipy.linalg.cython_blas"
    gc.disable()
    hidden = unused not in sys.modules
    if hidden:
        sys.modules[unused] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            sys.modules.pop(unused)
        if collects:
            gc.enable()


def array(tensor: Tensor) -> Array:
    """The same memory for a loop."""
    return tensor.detach().numpy()


def numbers(like: Tensor, *values: float) -> Array:
    """Numbers in the precision of a tensor: a bare one would make a loop compute in doubles."""
    return np.array(values, array(like).dtype)
