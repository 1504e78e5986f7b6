"""Carries out one order: a process of run_exps.py, gone on with when something kills it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

from exps import plugins
from exps.messages import shown
from exps.paths import word
from utils.many.order import DONE, FAILED, INTERRUPTED, LEFT, NOT_BEGUN, Order, Outcome
from utils.many.states import Folder, State
from utils.runs import folder as runs
from utils.runs.folder import UNFIT
from utils.runs.identity import ROOT
from utils.system.disk import make_own
from utils.system.lock import LockedError, take_lock
from utils.system.talk import LOG

RETRIES = 3  # after a process was killed
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit statuses of a run that was asked to
PAUSE = 0.2  # seconds between looks at what may have changed

# How urgently everything is to end.
GO_ON, IN_ORDER, AT_ONCE = 0, 1, 2
Urgency = Callable[[], int]


class Ended(NamedTuple):
    """What a process left."""

    status: int  # below 0: a signal
    out: str  # as a path is decoded
    err: str  # without what would move the cursor


def carry_out(order: Order, environment: Mapping[str, str], urgency: Urgency) -> Outcome:
    """Run it, unless it is done, from its newest checkpoint where there is one.

    environment: what the process has besides this one's. urgency: asked all the time; when it says
    IN_ORDER the run writes a checkpoint and ends, AT_ONCE it is killed.
    """
    end = time.monotonic() + order.patience
    while True:
        try:
            with _claimed(order):
                return _attempts(order, environment, urgency, end)
        except LockedError as error:
            if time.monotonic() > end or urgency():
                return Outcome(order.number, LEFT, reason=str(error))
        except OSError as error:
            reason = f"{error.filename or order.results_dir}: {error.strerror or error}"
            return Outcome(order.number, FAILED, reason=reason)
        time.sleep(PAUSE)


@contextlib.contextmanager
def _claimed(order: Order) -> Iterator[None]:
    """No other command begins the same run meanwhile. Raises LockedError, OSError."""
    folder = order.results_dir / runs.FOLDER
    path = folder / f"{order.claim}.claim"
    while True:
        make_own(folder)
        with contextlib.suppress(FileNotFoundError):  # the last run here removed the folder
            lock = take_lock(path)
            break
    try:
        with lock:
            yield
            path.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):  # others are in it
            folder.rmdir()


def _attempts(
    order: Order, environment: Mapping[str, str], urgency: Urgency, end: float
) -> Outcome:
    killed, left = 0, dict[str, str]()  # runs that cannot be gone on with, by name, and why
    while True:
        folder = Folder(order.results_dir)
        state = folder.state(order.wanted, again=order.again, without=left)
        if state.kind == "in use" and time.monotonic() <= end and not urgency():
            time.sleep(PAUSE)
            continue
        if settled := state.outcome(order.number):
            return settled
        if urgency():
            return Outcome(order.number, INTERRUPTED if killed or state.run else NOT_BEGUN)
        ended = _process(order, environment, urgency, state)
        LOG.info("%s: exit status %d\n%s", order.label, ended.status, ended.err.strip())
        if state.run and ended.status == UNFIT:
            name, error = state.run.name, _error(ended.err)
            why = re.search(r"^ *why: (.*)", error, flags=re.MULTILINE)  # the rest is known here
            left[name] = f"{runs.FOLDER}/{name} cannot be gone on with ({why[1] if why else error})"
            LOG.warning("%s: %s", order.label, left[name])
            continue
        if _was_killed(ended.status) and not urgency() and killed < RETRIES:
            killed += 1
            LOG.warning("%s: %s; it is gone on with", order.label, died_of(ended.status))
            continue
        outcome = _outcome(order, ended, killed, stopped=urgency() > 0)
        warnings = re.findall(r"^warning: (.*)", ended.err, flags=re.MULTILINE)
        return replace(outcome, warnings=tuple(warnings), left=tuple(left.values()))


def _process(order: Order, environment: Mapping[str, str], urgency: Urgency, state: State) -> Ended:
    """A run of the program from its beginning to its end."""
    with tempfile.TemporaryDirectory(prefix="sparse-syn-") as name:
        folder = Path(name)
        config = folder / "exps.cfg"
        config.write_bytes(order.config)
        files = plugins.send(order.files, folder)
        command = [sys.executable, str(ROOT / "run_exps.py"), *order.words]
        command += [word("--config", config), word("--results-dir", order.results_dir)]
        command += [word("--resume", state.run.name)] if state.run else []
        command += ["--quiet", "--worker"]
        its_end, our_end = os.pipe()
        with os.fdopen(its_end, "rb") as input_, os.fdopen(our_end, "wb") as asking:
            # Ctrl-C of a terminal reaches this process alone, which passes it on in order.
            process = subprocess.Popen(
                command,
                cwd=order.folder if order.folder.is_dir() else None,
                stdin=input_,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment, **files},
                start_new_session=True,
            )
            input_.close()
            out, err = _wait(process, asking, urgency)
        lines = err[-20_000:].decode(errors="replace").splitlines()
        said = "\n".join(shown(line, 1000) for line in lines)
        return Ended(process.returncode, os.fsdecode(out), said)


def _wait(
    process: subprocess.Popen[bytes], asking: IO[bytes], urgency: Urgency
) -> tuple[bytes, bytes]:
    """What the process has written when it ends. The end of its input, of which `asking` is the
    other end, is what asks it to (`stopping.end_with_input`): so it ends as well when this process
    is killed.
    """
    while True:
        try:
            return process.communicate(timeout=PAUSE)
        except subprocess.TimeoutExpired:
            level = urgency()
        if level:
            asking.close()
        if level == AT_ONCE:
            process.kill()


def _was_killed(status: int) -> bool:
    """Whether a signal, and no decision of its own, has ended the process."""
    return status < 0 or status in STOPPED


def died_of(status: int) -> str:
    """The end of a process that was killed, for people."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"its process was killed by signal {number} ({signal.Signals(number).name})"
    return f"its process ended with status {status}"


def _outcome(order: Order, ended: Ended, killed: int, *, stopped: bool) -> Outcome:
    path = _result(ended.out, order.results_dir)
    log = path.with_suffix(".log") if path else None
    if ended.status == 0 and path is not None:
        return Outcome(order.number, DONE, path, log=log, killed=killed)
    if stopped and _was_killed(ended.status):
        return Outcome(order.number, INTERRUPTED, path, log=log, killed=killed)
    reason = _error(ended.err) or f"it ended with status {ended.status}"
    if _was_killed(ended.status):
        killed += 1
        reason = (
            f"{died_of(ended.status)}; when memory is short, lower --jobs."
            " The same command goes on with it"
        )
    return Outcome(order.number, FAILED, path, reason, log, killed)


def _result(out: str, results_dir: Path) -> Path | None:
    """The result that a process told of; of the folder's name, only what can be shown was told."""
    lines = [line for line in out.split("\n") if line.endswith(".pkl")]
    if not lines:
        return None
    told = Path(lines[-1])
    here = results_dir / told.name
    return here if here.exists() else told


def _error(err: str) -> str:
    """The last error that a process told, without what a user of many runs does not need."""
    found = re.split(r"^error: ", err, flags=re.MULTILINE)
    lines = found[-1].splitlines() if len(found) > 1 else err.splitlines()[-1:]
    return "\n".join(line for line in lines if not line.startswith("to go on: "))
