"""Many runs on a Ray cluster: a task for each, begun again elsewhere when its node dies.

Where the results folder is the caller's on a node too (a marker in it tells), a run goes on from
its checkpoint and leaves its result there. Elsewhere it works in a folder of the node, and the
files come back as bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics go out to its makers
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from exps.messages import shown
from utils.many.order import FAILED, INTERRUPTED, NOT_BEGUN, Order, Outcome
from utils.many.parcel import bring_back, copy_program, pack, unpack
from utils.many.states import Folder
from utils.many.worker import GO_ON, IN_ORDER, Urgency, carry_out
from utils.results.files import ResultsError
from utils.runs import folder as runs
from utils.runs.folder import RunError
from utils.system.cores import cores
from utils.system.disk import make_own
from utils.system.talk import LOG, warn

RETRIES = 5  # when the worker process of a task or its node dies
PATIENCE = 120.0  # seconds for a run whose task died to write its last checkpoint and let go
TICK = 0.5  # seconds between two looks around
KNOCK = 10.0  # seconds for a cluster to answer
TO_END = 150.0  # seconds for all runs to end in order
# Ray says no more than that it cannot connect, where a token is what is missing.
TOKENS = (
    "if its head node has a file ~/.ray/auth_token, have the same here and set "
    "RAY_AUTH_MODE=token; else check that Ray and Python have the same versions there"
)
NOBODY = ("no Ray cluster", "start one (ray start --head), or check --address")
SHUT = ("cannot connect to the Ray cluster", TOKENS)
# What it says, whatever the kind of its error, and what that means: what is wrong, what to do.
CAUSES = {
    "version mismatch": (
        "cannot connect to the Ray cluster",
        "have the same versions of Ray and Python here and on all nodes",
    ),
    "authentication": SHUT,
    "failed to upload|package size": (
        "the program cannot be sent to the Ray cluster",
        "see that its head node has room for it; nothing but the program is sent",
    ),
    "invalid address|could not find any running ray": NOBODY,
}


class Bell:
    """An actor that tells all tasks when they are to end."""

    def __init__(self) -> None:
        self.level = GO_ON

    def ring(self) -> None:
        self.level = IN_ORDER

    def asked(self) -> int:
        return self.level


class OnRay:
    """A Ray cluster."""

    def __init__(self, address: str | None, jobs: int | None, threads: int) -> None:
        """address: as `ray.init` takes it. Raises RunError when there is no such cluster."""
        self.jobs, self.threads = jobs, threads
        self.ending: float | None = None  # since when
        self.sent: dict[int, str] = {}  # the unfinished run of each order that has one
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        _connect(address)
        for number, handler in handlers.items():  # Ray takes SIGTERM for itself
            signal.signal(number, handler)
        self.gpus = ray.cluster_resources().get("GPU", 0)
        bell: Any = ray.remote(Bell)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.bell = bell.options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        ).remote()
        alive = [node for node in ray.nodes() if node["Alive"]]
        if threads > max((node["Resources"].get("CPU", 0) for node in alive), default=0):
            # A cluster may grow.
            warn(f"no node of the cluster has {threads} CPUs: waiting for one that has")

    def __str__(self) -> str:
        nodes = sum(node["Alive"] for node in ray.nodes())
        most = f", {self.jobs} at a time" if self.jobs else ""
        return f"on a Ray cluster of {nodes} node(s){most}, {self.threads} CPU(s) each"

    def work(self, orders: Sequence[Order]) -> Generator[Outcome | None, None, None]:
        """See `Local`."""
        results_dir = orders[0].results_dir.absolute()
        waiting, pending = deque(orders), dict[Any, Order]()
        most = self.jobs or len(orders)
        try:
            with _marked(results_dir) as marker:
                folder = Folder(results_dir)
                while waiting or pending:
                    while waiting and self.ending is None and len(pending) < most:
                        order = waiting.popleft()
                        try:
                            pending[self._begin(order, marker, folder)] = order
                        except OSError as error:  # also of a checkpoint that another has removed
                            yield _failed(order, f"its files cannot be sent: {error}")
                    if self.ending is not None:
                        yield from (Outcome(order.number, NOT_BEGUN) for order in waiting)
                        waiting.clear()
                        if time.monotonic() - self.ending > TO_END:
                            # No node had room for it, say.
                            for ref in pending:
                                ray.cancel(ref, force=True)
                            yield from (Outcome(o.number, INTERRUPTED) for o in pending.values())
                            pending.clear()
                    ready = ray.wait(list(pending), timeout=TICK)[0] if pending else []
                    yield from (self._outcome(ref, pending.pop(ref), results_dir) for ref in ready)
                    yield None
        finally:
            ray.shutdown()  # ends tasks that still run, whose workers end in order

    def end(self) -> None:
        """See `Local`."""
        self.ending = time.monotonic()
        self.bell.ring.remote()

    def _begin(self, order: Order, marker: Path, folder: Folder) -> Any:
        state = folder.state(order.wanted, again=order.again)
        begun = []
        if state.run and state.kind == "unfinished":
            self.sent[order.number] = state.run.name
            begun.append(ray.put(pack(state.run.results_dir, state.run.name)))
        order = replace(order, results_dir=marker.parents[1], patience=PATIENCE)
        gpus = 1 if self.gpus and order.device != "cpu" else 0
        task: Any = ray.remote(on_node)
        task = task.options(
            num_cpus=self.threads, num_gpus=gpus, max_retries=RETRIES, name=order.label
        )
        busy = state.outcome(order.number) if state.kind == "in use" else None
        return task.remote(order, self.threads, marker, begun, busy, self.bell)

    def _outcome(self, ref: Any, order: Order, results_dir: Path) -> Outcome:
        """What a task that has ended says, and its files brought to the caller's folder."""
        try:
            outcome: Outcome = ray.get(ref)
            sent = self.sent.get(order.number, "")
            return bring_back(outcome, results_dir, sent) if outcome.files else outcome
        except RayError as error:
            LOG.error("%s: %s", order.label, error)
            reason = f"its Ray task was lost: {shown(str(error).strip().splitlines()[0], 300)}"
        except (OSError, ResultsError) as error:
            reason = f"its files cannot be brought back: {error}"
        return _failed(order, reason)


def _failed(order: Order, reason: str) -> Outcome:
    return Outcome(order.number, FAILED, reason=f"{reason}. The same command tries it again")


def on_node(
    order: Order,
    threads: int,
    marker: Path,
    begun: list[Any],
    busy: Outcome | None,
    bell: Any,
) -> Outcome:
    """The task, in a worker process of Ray on some node: carries the order out in the caller's
    results folder, or in one of the node's own.

    begun: in a list, so that they are fetched only where they are needed, the unfinished run's
    files, or nothing; busy: what becomes of it where another process has it and cannot be asked
    from the node.
    """
    environment = {"OMP_NUM_THREADS": str(threads)}
    with _listening(bell) as urgency:
        if marker.exists():
            return carry_out(order, environment, urgency)
        if busy:
            return busy
        with tempfile.TemporaryDirectory(prefix="sparse-syn-") as name:
            folder = Path(name)
            for files in begun:
                unpack(ray.get(files), folder)
            outcome = carry_out(replace(order, results_dir=folder), environment, urgency)
            return replace(outcome, files=pack(folder))


@contextlib.contextmanager
def _listening(bell: Any) -> Iterator[Urgency]:
    """How urgently all is to end, as the bell says.

    It is asked by another thread: a task whose main thread waits for Ray gives its CPU away.
    """
    level, first, over = [GO_ON], threading.Event(), threading.Event()

    def listen() -> None:
        while not over.is_set():
            with contextlib.suppress(RayError):  # its node has died, and it comes back elsewhere
                level[0] = ray.get(bell.asked.remote(), timeout=10 * TICK)
            first.set()
            over.wait(2 * TICK)

    threading.Thread(target=listen, name="bell", daemon=True).start()
    first.wait()
    try:
        yield lambda: level[0]
    finally:
        over.set()


def _connect(address: str | None) -> None:
    """Raises RunError."""
    address = address or os.environ.get("RAY_ADDRESS") or None
    with tempfile.TemporaryDirectory(prefix="sparse-syn-") as name:
        try:
            copy_program(Path(name))
        except OSError as error:
            what, remedy = "the program cannot be copied for Ray", "make room there, or set TMPDIR"
            raise RunError(f"--executor ray: {what}", f"{name}: {error}", remedy) from error
        listening = False
        try:
            listening = _knock(address)
            _init(address, name)
        except (RayError, ImportError, RuntimeError, ValueError, OverflowError, OSError) as error:
            LOG.debug("ray.init", exc_info=True)
            ray.shutdown()  # of a Ray that was begun all the same
            raise _explained(error, address, listening) from error


def _init(address: str | None, program: str) -> None:
    """A Ray of its own has the cores that this process may use."""
    options: dict[str, Any] = {
        "address": address,
        "runtime_env": {"working_dir": program},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address is None:
        try:
            ray.init(**options, include_dashboard=False, num_cpus=cores())
            return
        except ValueError as error:  # there is one already: of $RAY_ADDRESS, or on this machine
            if "num_cpus" not in str(error):
                raise
    ray.init(**options)


def _explained(error: Exception, address: str | None, listening: bool) -> RunError:
    """What Ray says of why it cannot be used, all on one line, and what that means."""
    said = " ".join(str(error).split()) or repr(error)
    cause = "Ray cannot be started", "read on in /tmp/ray/session_latest/logs"
    if address:
        cause = SHUT if listening else NOBODY
    known = (cause for words, cause in CAUSES.items() if re.search(words, said, re.IGNORECASE))
    what, remedy = next(known, cause)
    where = shown(address or "this machine")
    return RunError(f"--executor ray: {what} at {where}", shown(said, 500), remedy)


def _knock(address: str | None) -> bool:
    """Whether somebody listens at an address with a port; raises OSError where nobody does, for
    which Ray would wait a minute and more."""
    match = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:([0-9]{1,5})", address or "")
    if match is None:
        return False
    socket.create_connection((match[1], int(match[2])), timeout=KNOCK).close()
    return True


@contextlib.contextmanager
def _marked(results_dir: Path) -> Iterator[Path]:
    """A file by which nodes see whether the folder is theirs too."""
    folder = results_dir / runs.FOLDER
    make_own(folder)
    marker = folder / f"{secrets.token_hex(8)}.shared"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # unfinished runs are in it
            folder.rmdir()
