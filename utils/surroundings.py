"""What the libraries below torch read from the environment when loaded: set before that."""

from __future__ import annotations

import os

from utils.cores import cores

# A thread that waits for its partners spins, by default for as long as they take. Where a partner
# waits for a core itself, as on every machine that has other work, that costs a step ten times.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def prepare(threads: int | None = None) -> None:
    """Threads that sleep while they wait, as many as asked for or as there are cores to use, and
    cuBLAS with the same bits twice; what the user has set stays.

    To be called before torch is imported, by every process that trains.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
