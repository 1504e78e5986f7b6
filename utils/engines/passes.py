"""What methods do with every parameter in every step: by a compiled loop where there is numba, for
what bounds it are passes over the memory, else by torch's operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from utils.system.runtime import has_numba

MANY = 2**16  # numbers from which a loop is faster


@torch.no_grad()
def pull(p: Tensor, strength: Tensor, anchor: Tensor) -> None:
    """Add strength · (p - anchor) to the gradient of p."""
    assert p.grad is not None
    if _fit(p.grad, p, strength, anchor):
        _loop("pull", p.grad, p, strength, anchor)
    else:
        p.grad.addcmul_(strength, p - anchor)


@torch.no_grad()
def follow(p: Tensor, before: Tensor, total: Tensor) -> None:
    """Add gradient · (before - p) to the total, if there is a gradient; `before` becomes p."""
    if p.grad is None:
        before.copy_(p)
    elif _fit(total, p.grad, before, p):
        _loop("follow", total, p.grad, before, p)
    else:
        total.addcmul_(p.grad, before.sub_(p))
        before.copy_(p)


def _fit(*tensors: Tensor) -> bool:
    """Whether a loop takes them: as they lie in memory one after the other."""
    alike = (x.is_contiguous() and x.dtype == torch.float32 and x.is_cpu for x in tensors)
    return tensors[0].numel() >= MANY and all(alike) and has_numba()


def _loop(name: str, *tensors: Tensor) -> None:
    from utils.engines.compiled import passes
    from utils.engines.compiled.threads import array, in_parts

    function: Any = getattr(passes, name)
    parts = torch.get_num_threads()
    in_parts(function, parts, *(array(x).reshape(-1) for x in tensors), parts=parts)
