"""Compiled loops in as many threads as torch has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.engines.compiled.kernels import PARTS


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def in_parts(function: Callable[..., object], *args: object, parts: int = PARTS) -> None:
    """function(part, *args) for every part; a thread that is done takes the next."""
    following = count().__next__

    def work() -> None:
        while (part := following()) < parts:
            function(part, *args)

    others = min(torch.get_num_threads(), parts) - 1
    begun = [_pool(others).submit(work) for _ in range(others)]
    work()
    for future in begun:
        future.result()


def array(x: Tensor) -> Any:
    """A tensor's memory for compiled code: bfloat16 as uint16, in the tensor's own order."""
    x = x.detach()
    found: np.ndarray = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return found
