"""What the libraries below torch read from the environment when loaded: set before that."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from utils.system.cores import THREADS, limit_threads

# A thread that has done its part of a product spins until the others have done theirs, by default
# for milliseconds. Where a partner waits for a core that somebody else has, a step takes many times
# as long. After so many rounds, some tens of microseconds, it sleeps instead: long enough for a
# quiet machine, on which sleeping at once would cost a third.
SPINS = "1000"
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """No more threads than there are cores for, which do not spin for long, and cuBLAS with the
    same bits twice. What the user has set stays. torch must not be loaded yet."""
    limit_threads(environ)
    if not any(name in environ for name in _WAITING):
        environ["GOMP_SPINCOUNT"] = SPINS
    environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(count: int | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """So many threads, where they are asked for. torch must not be loaded yet."""
    if count is not None:
        environ[THREADS] = str(count)


@contextmanager
def loading() -> Iterator[None]:
    """Where torch is loaded inside: what modules are made of stays to the end, so nobody looks
    whether it is garbage, neither meanwhile nor later."""
    new, on = "torch" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if new:
            gc.freeze()
        if on:
            gc.enable()
