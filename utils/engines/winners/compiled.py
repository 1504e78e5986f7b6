"""The seam between the sparse engine and its compiled loops."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from exps.messages import Told

Array = np.ndarray[Any, Any]


class LoopsError(Told):
    """numba is there and cannot be used."""


@cache
def loops() -> Any:
    """The module of compiled loops. Raises LoopsError where numba cannot be imported."""
    try:
        with _in_a_hurry():
            from utils.engines.winners import loops as found

            found.load()
    except ImportError as error:
        what, remedy = "the sparse engine cannot be compiled", "install requirements.txt anew"
        raise LoopsError(what, f"numba: {error}", remedy) from error
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
