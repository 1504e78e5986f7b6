"""What the libraries below torch read from the environment when loaded: set before that."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
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


@contextmanager
def prepare_to_train(
    threads: int | None, environ: MutableMapping[str, str] = os.environ
) -> Iterator[None]:
    """So many threads, where they are asked for; they sleep while they wait unless there is a free
    core for each, which is looked at while what is inside is done, and settled at its end or when
    something there loads torch. For who trains."""
    if threads is not None:
        environ[THREADS] = str(threads)
    look = Look()

    def settle() -> None:
        told = environ.get(THREADS, "")
        count = int(told) if told.isdigit() else cores(environ)
        open_to = count > 1 and not any(name in environ for name in _WAITING)
        if open_to and look.free() < count - 0.5:
            environ["OMP_WAIT_POLICY"] = "passive"

    with _before("torch", settle):
        yield


@contextmanager
def _before(module: str, act: Callable[[], None]) -> Iterator[None]:
    """Act once: before what is inside loads a module, or at its end."""
    waiting = [act]

    class Finder(MetaPathFinder):
        """Finds nothing, but is asked first."""

        def find_spec(self, name: str, *_: object) -> None:
            """Act, if it is the module."""
            if name == module and waiting:
                waiting.pop()()

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
    if waiting:
        act()


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


class Look:
    """A look at the cores that this process may use, from now on."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root, self.before = root, _ticks(root)
        self.began, self.own = time.monotonic(), time.process_time()

    def free(self, pause: Callable[[float], None] = time.sleep) -> float:
        """How many had nothing to do but for this process, for a moment at least; all where that
        cannot be told."""
        pause(max(0.0, self.began + LOOK - time.monotonic()))
        own = time.process_time() - self.own
        spent = {
            core: (idle - self.before[core][0], total - self.before[core][1])
            for core, (idle, total) in _ticks(self.root).items()
            if core in self.before
        }
        if not spent:
            return float(cores())
        seconds = time.monotonic() - self.began
        return own / seconds + sum(idle / total if total else 1.0 for idle, total in spent.values())


def _ticks(root: Path) -> dict[int, tuple[int, int]]:
    """Of each core that this process may use: the time that it was idle, and all of it."""
    found = {}
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # not Linux
        ours = os.sched_getaffinity(0)
        for line in (root / "proc/stat").read_text().splitlines():
            name, *numbers = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in ours:
                ticks = list(map(int, numbers))[:8]  # guests are counted twice
                found[int(name[3:])] = ticks[3] + ticks[4], sum(ticks)
    return found
