"""The seam between the sparse engine and its compiled loops: where numba is, they are taken."""

from __future__ import annotations

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
        from utils.engines.winners import loops as found
    except ImportError as error:
        LOG.info("the sparse engine is not compiled: %s", error)
        return None
    return found


def array(tensor: Tensor) -> Array:
    """The same memory for a loop."""
    return tensor.detach().numpy()


def numbers(like: Tensor, *values: float) -> Array:
    """Numbers in the precision of a tensor: a bare one would make a loop compute in doubles."""
    return np.array(values, array(like).dtype)
