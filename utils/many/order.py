"""One of many runs as plain values that can be sent to another process or machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from utils.runs.identity import Wanted

# What becomes of runs, in the order of the summary; skipped: done before.
KINDS = ("done", "skipped", "interrupted", "not begun", "left to another process", "failed")
DONE, SKIPPED, INTERRUPTED, NOT_BEGUN, LEFT, FAILED = KINDS
DIVERGED = "it diverged before, and the same numbers would come again (--again repeats it)"


@dataclass(frozen=True)
class Order:
    """What is to be run. `words` are the options of run_exps.py that describe it.

    together: of how many seeds the stack is in which it is trained; 1: it is trained alone. claim:
    a name that the same run has in every command, and no other run has. config: contents of the
    configuration file; files: those of the user that the run is made of, by their paths; a
    worker gets copies, so that changing a file meanwhile changes no run. folder: where it works, if
    that is there. patience: seconds to wait for another process to let go of the run.
    """

    number: int
    label: str
    group: str  # the label of all that differ in the seed alone
    wanted: Wanted
    claim: str
    device: str
    words: tuple[str, ...]
    config: bytes = field(repr=False)
    results_dir: Path
    folder: Path
    again: bool = False
    together: int = 1
    patience: float = 5.0
    files: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What has become of an order. path: its result; killed: how often its process died.

    warnings: what its process warned of; left: what is to be known of unfinished runs that could
    not be gone on with; files: what the run left, by file name, where its folder is not the
    caller's.
    """

    number: int
    kind: str  # of KINDS
    path: Path | None = None
    reason: str = ""
    log: Path | None = None
    killed: int = 0
    warnings: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
