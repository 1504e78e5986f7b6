"""Unfinished runs: a folder each below `.runs` in the results folder, with numbered checkpoints.

A run is known by the name of its result to be. Nothing here needs torch, so that `--list-runs`
answers at once. Order comes from counters, never from a clock, which may be set back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from exps.messages import Told, columns, quoted, shown, shown_path
from utils.runs import checkpoint_file
from utils.runs.checkpoint_file import CheckpointError
from utils.system.disk import make_own, require_no_link
from utils.system.lock import LockedError, holder, take_lock

FOLDER = ".runs"
NAME = "[A-Za-z0-9_+-]+"  # what `results.result_name` gives: no other folder is a run
KEPT = 2  # checkpoints: the newest and the one before
ABANDONED = 3600  # seconds: by then a process has locked the folder that it has made
UNFIT = 3  # exit status of one of many runs that an UnfitError ends
T = TypeVar("T")


class RunError(Told):
    """What is asked of runs cannot be done."""

    status = 2


class UnfitError(RunError):
    """An unfinished run that cannot be gone on with here: it is damaged, or of something else."""


class Run:
    """The folder of one unfinished run."""

    def __init__(self, results_dir: Path, name: str) -> None:
        self.results_dir, self.name = results_dir, name
        self.folder = results_dir / FOLDER / name

    @property
    def log(self) -> Path:
        """Its log, beside its result."""
        return self.results_dir / f"{self.name}.log"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else works on this run meanwhile. Raises RunError when somebody does already, and
        where its files would be written elsewhere."""
        try:
            require_no_link(self.folder.parent, self.folder)
            lock = take_lock(self.folder / "lock")
        except LockedError as error:
            raise RunError(
                f"run {self.name} is in use",
                str(error),
                "wait until that process has ended, or stop it",
            ) from error
        except OSError as error:
            raise UnfitError(
                f"run {self.name} cannot be locked",
                f"{self.folder}: {error.strerror or error}",
                "remove what lies in the place of its lock, or the whole folder to begin anew",
            ) from error
        with lock:
            yield

    def checkpoints(self) -> list[Path]:
        """Its checkpoints, the newest first."""
        found = [p for p in self.folder.iterdir() if re.fullmatch(r"[0-9]{8}\.ckpt", p.name)]
        return sorted(found, reverse=True)

    def write(self, facts: dict[str, Any], tree: Any) -> tuple[Path, int]:
        """Add a checkpoint and drop all but the one before it; the path and its size in bytes.

        Makes the folder again if it has vanished. Raises OSError, with all others still there.
        """
        make_own(self.folder.parent, self.folder)
        older = self.checkpoints()
        number = int(older[0].stem) + 1 if older else 0
        path = self.folder / f"{number:08d}.ckpt"
        size = checkpoint_file.write(path, facts, tree)
        for old in older[KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return path, size

    def begun(self) -> bool:
        """Whether it has a checkpoint, sound or not."""
        with contextlib.suppress(OSError):
            return bool(self.checkpoints())
        return False

    def facts(self) -> tuple[Path, dict[str, Any]]:
        """The newest checkpoint whose header is sound, and its facts. Raises CheckpointError."""
        path, facts, _ = self._newest(checkpoint_file.read_facts)
        return path, facts

    def newest(self, limit: int) -> tuple[Path, dict[str, Any], Any, list[str]]:
        """The newest sound checkpoint: path, facts, tree, and what was wrong with newer ones.

        limit: see `checkpoint_file.read`. Raises CheckpointError when none is sound.
        """
        path, (facts, tree), faults = self._newest(lambda path: checkpoint_file.read(path, limit))
        return path, facts, tree, faults

    def _newest(self, read: Callable[[Path], T]) -> tuple[Path, T, list[str]]:
        faults = list[str]()
        try:
            found = self.checkpoints()
        except OSError as error:
            raise CheckpointError(f"it cannot be read ({error.strerror or error})") from error
        for path in found:
            try:
                return path, read(path), faults
            except CheckpointError as error:
                faults.append(f"{path}: {error}")
        raise CheckpointError("; ".join(faults) or "it has no checkpoint")

    def set_aside(self, newest: Path) -> None:
        """Take what is newer than this checkpoint, and so damaged, out of the way.

        Otherwise it would count as the one before when the next one is written.
        """
        for path in self.checkpoints():
            if path.name > newest.name:
                path.rename(path.with_name(f"{path.name}.damaged"))

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half written."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """The run is done: remove its folder, and that of all runs when it was the last."""
        with contextlib.suppress(OSError):  # other runs are in it
            require_no_link(self.folder.parent, self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)
            for path in self.folder.parent.iterdir():
                if Run(self.results_dir, path.name).abandoned():
                    shutil.rmtree(path, ignore_errors=True)
            self.folder.parent.rmdir()

    def abandoned(self) -> bool:
        """Whether it was killed an hour ago or more, before its first checkpoint."""
        if not re.fullmatch(NAME, self.name) or self.folder.is_symlink():
            return False
        empty = all(re.fullmatch(r"lock|\..*\.tmp", path.name) for path in self.folder.iterdir())
        old = time.time() - self.folder.stat().st_mtime > ABANDONED
        return empty and old and holder(self.folder / "lock") is None


def reserve(results_dir: Path, stem: str) -> Run:
    """A new run with this name, or with `_2`, `_3` behind it where others have it already.

    Two processes never get the same one. Raises OSError.
    """
    number = 1
    while True:
        run = Run(results_dir, stem if number == 1 else f"{stem}_{number}")
        if not any(map(os.path.lexists, (run.log, run.log.with_suffix(".pkl")))):
            make_own(run.folder.parent)
            try:
                run.folder.mkdir()
                return run
            except FileNotFoundError:  # a run beside this one was the last, and removed `.runs`
                continue
            except FileExistsError:  # another process was faster: the next name
                pass
        number += 1


def unfinished(results_dir: Path) -> list[Run]:
    """All runs that have not been finished, the newest first; damaged ones too."""
    try:
        require_no_link(results_dir / FOLDER)
        found = [p for p in (results_dir / FOLDER).iterdir() if p.is_dir() and not p.is_symlink()]
    except OSError:
        return []
    # Without a checkpoint it has not begun, or another process is about to remove it.
    runs = [Run(results_dir, path.name) for path in found if re.fullmatch(NAME, path.name)]
    runs = [run for run in runs if run.begun()]
    return sorted(runs, key=lambda run: (_serial(run), run.name), reverse=True)


def next_serial(results_dir: Path) -> int:
    """A number above that of every unfinished run."""
    return 1 + max((_serial(run) for run in unfinished(results_dir)), default=0)


def find(results_dir: Path, wanted: str) -> Run:
    """The unfinished run that a name or a path (of its folder or a file in it) stands for.

    Raises RunError.
    """
    path = Path(wanted)
    if len(path.parts) > 1:
        path = path.parent if path.suffix == ".ckpt" else path
        below = path.absolute().parent
        results_dir = below.parent if below.name == FOLDER else below
    run = Run(results_dir, re.sub(r"\.(pkl|log)$", "", path.name))
    with contextlib.suppress(OSError, ValueError):  # what cannot be a name is the name of no run
        if re.fullmatch(NAME, run.name) and run.folder.is_dir():
            return run
    why = f"there is none in {results_dir / FOLDER}"
    with contextlib.suppress(OSError, ValueError):
        done = results_dir / f"{run.name}.pkl"
        why = f"it is finished: {done}" if done.exists() else why
    raise RunError(
        f"there is no unfinished run {quoted(wanted)}",
        shown(why, 400),
        "choose one of those that --list-runs shows, or leave out --resume to begin anew",
    )


def table(results_dir: Path) -> str:
    """A line on each unfinished run: name, progress, age of its newest checkpoint, state."""
    rows = [_row(run) for run in unfinished(results_dir)]
    if not rows:
        return f"{shown_path(results_dir)}: no unfinished runs"
    rows.insert(0, ("run", "progress", "checkpoint", "state"))
    return columns(rows)


def _row(run: Run) -> tuple[str, str, str, str]:
    owner = holder(run.folder / "lock")
    state = f"running on {owner}" if owner else "stopped"
    try:
        path, facts = run.facts()
        seconds = time.time() - path.stat().st_mtime
        age = f"{span(seconds, 0)} ago" if seconds >= 0 else "just now"  # the clock was set back
        percent = 100 * float(facts.get("share", 0.0))
        progress = f"{percent:5.1f} %, {shown(str(facts.get('progress', '')))}"
    except (CheckpointError, OSError, ValueError, TypeError) as error:
        return run.name, "unknown", "-", f"{state}; {shown(str(error), 200)}"
    return run.name, progress, age, state


def span(seconds: float, digits: int = 1) -> str:
    """A length of time in words."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds:.{digits}f} s"


def _serial(run: Run) -> int:
    with contextlib.suppress(CheckpointError):
        serial = run.facts()[1].get("serial")
        return serial if type(serial) is int else 0
    return 0


@contextlib.contextmanager
def reading(run: Run) -> Iterator[None]:
    """Turn CheckpointError and OSError into an UnfitError about this run."""
    try:
        yield
    except (CheckpointError, OSError) as error:
        raise UnfitError(
            f"run {run.name} cannot be gone on with",
            str(error),
            f"start it anew, and remove {run.folder}",
        ) from error
