"""What the libraries below torch read from the environment when loaded: set before that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

from utils.system.cores import THREADS, cores, limit_threads

# A thread that waits for its partners spins, by default for as long as they take. Where a partner
# waits for a core itself that costs a step many times; where all have a core, sleeping and waking
# would cost it a third.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
LOOK = 0.1  # seconds that are looked at whether cores are free


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """No more threads than there are cores for, and cuBLAS with the same bits twice. What the user
    has set stays. torch must not be loaded yet."""
    limit_threads(environ)
    environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def prepare_to_train(threads: int | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """So many threads, where they are asked for; they sleep while they wait unless there is a free
    core for each. Takes a moment: for who trains."""
    if threads is not None:
        environ[THREADS] = str(threads)
    told = environ.get(THREADS, "")
    count = int(told) if told.isdigit() else cores(environ)
    open_to = count > 1 and not any(name in environ for name in _WAITING)
    if open_to and free_cores() < count - 0.5:
        environ["OMP_WAIT_POLICY"] = "passive"


def free_cores(root: Path = Path("/"), pause: Callable[[float], None] = time.sleep) -> float:
    """How many of the cores that this process may use have had nothing to do for a moment; all
    where that cannot be told."""
    try:
        before = _ticks(root)
        pause(LOOK)
        after = _ticks(root)
    except (OSError, ValueError, IndexError):  # not Linux
        return float(cores())
    free = 0.0
    for core, (idle, total) in after.items():
        idle, total = idle - before[core][0], total - before[core][1]
        free += idle / total if total else 1.0
    return free


def _ticks(root: Path) -> dict[int, tuple[int, int]]:
    """Of each core that this process may use: the time that it was idle, and all of it."""
    ours = os.sched_getaffinity(0)
    found = {}
    for line in (root / "proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in ours:
            ticks = list(map(int, numbers))[:8]  # guests are counted twice
            found[int(name[3:])] = ticks[3] + ticks[4], sum(ticks)
    return found
