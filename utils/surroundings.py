"""What the libraries below torch read from the environment when loaded: set before that."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from utils.cores import limit_threads

# A thread that waits for its partners spins, by default for as long as they take. Where a partner
# waits for a core itself, as on every machine that has other work, that costs a step ten times.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """No more threads than there are cores for, threads that sleep while they wait, and cuBLAS with
    the same bits twice. What the user has set stays. torch must not be loaded yet."""
    limit_threads(environ)
    if not any(name in environ for name in _WAITING):
        environ["OMP_WAIT_POLICY"] = "passive"
    environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
