"""A run from its name to its result: begun or gone on with, kept safe, and ended whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import sys
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps import VERSION, config
from exps.config import Experiment
from utils import checkpoint, runs
from utils.engine.base import Engine
from utils.failures import explain, is_out_of_memory
from utils.identity import code_digest, configuration
from utils.keeper import Keeper
from utils.log import LOG, say, warn
from utils.progress import Progress
from utils.results import ResultsError, save_results
from utils.resume import require_same
from utils.runs import Run
from utils.stopping import Signals, Stopped
from utils.summary import epochs_of
from utils.training import DivergedError, Place, RunRecord, empty_record, run_stream


@dataclass
class Session:
    """One run: what it is made of, and how far it has come."""

    run: Run
    exp: Experiment
    stream: TaskStream
    engine: Engine
    order: torch.Generator
    meta: dict[str, Any]
    record: RunRecord = field(init=False)
    place: Place = field(default_factory=Place)
    resumed: int = 0
    serial: int = 0
    status: str = "running"

    def __post_init__(self) -> None:
        self.record = empty_record(self.stream)
        self.identity = {
            "config": configuration(self.exp),
            "program": {
                "version": VERSION,
                "commit": str(self.meta["commit"]),
                "code": code_digest(),
                "torch": str(torch.__version__),
            },
            "place": {"device": self.engine.device.type, "engine": type(self.engine).__name__},
            "data": {"data": data_digest(self.stream)},
        }

    def begin(self) -> None:
        """Leave a first checkpoint, so that the run is known from now on. Raises OSError."""
        self.serial = runs.next_serial(self.run.results_dir)
        self.run.write(*self.take())

    def go_on(self) -> None:
        """Continue from the newest sound checkpoint. Raises RunError when that cannot be."""
        self.run.remove_leftovers()
        with runs.reading(self.run):
            path, facts, tree, faults = self.run.newest(checkpoint.size_limit(self.engine))
            require_same(self.run, facts.get("identity"), self.exp, **_but_config(self.identity))
            for fault in faults:
                warn(f"{fault}; the checkpoint before it is used")
            self._same_machine(facts)
            self.place = checkpoint.put_back(tree, self.engine, self.record)
            self.resumed, self.serial = int(facts["resumed"]) + 1, int(facts["serial"])
            self.meta["started"] = str(facts["started"])
        LOG.debug("gone on from %s", path)

    def take(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A checkpoint: its facts, and its tree."""
        facts = {
            "identity": self.identity,
            "started": self.meta["started"],
            "machine": self.meta["device_name"],
            "threads": torch.get_num_threads(),
            "resumed": self.resumed,
            "serial": self.serial,
            "progress": progress_text(self.exp, self.stream, self.place),
            "share": share_done(self.exp, self.stream, self.place),
        }
        return facts, checkpoint.take(self.engine, self.record, self.place)

    def train(self, signals: Signals, progress: Progress) -> tuple[int, str]:
        """Run to the end, whichever it is: the exit status, and what to tell people of a bad end."""
        with Keeper(self.take, self.run.write, self.exp.checkpoint_every, signals) as keeper:
            status, message = self._train(signals, progress, keeper)
        self.meta["resumed"] = self.resumed
        self.meta["checkpoints"] = {
            "written": keeper.written,
            "seconds": keeper.seconds,
            "seconds_beside": keeper.beside,
        }
        LOG.debug("checkpoints: %s", self.meta["checkpoints"])
        return status, message

    def _train(
        self, signals: Signals, progress: Progress, keeper: Keeper
    ) -> tuple[int, str]:
        signals.patient = True
        try:
            run_stream(
                *(self.exp, self.stream, self.engine, self.order, self.record, progress),
                self.place,
                keeper,
            )
        except Stopped as stop:
            if stop.at_once:
                raise
            self.status = "interrupted"
            return stop.status, f"interrupted by {stop.cause}: the results so far are kept"
        except DivergedError as error:
            self.status = "diverged"
            return 1, f"error: {error}"
        except Exception as error:
            self.status = "out of memory" if is_out_of_memory(error) else "failed"
            LOG.debug("traceback", exc_info=True)
            where = progress_text(self.exp, self.stream, self.place)
            return 1, f"error: {explain(error, self.exp, where)}"
        self.status = "complete"
        return 0, ""

    @property
    def over(self) -> bool:
        """Whether nothing is left that could be gone on with."""
        return self.status in ("complete", "diverged")

    def save_result(self) -> Path:
        """Write the result; where the results folder does not take it, into another one.

        Raises ResultsError after the latter, which says where.
        """
        self.meta |= {
            "ended": datetime.now().isoformat(timespec="seconds"),
            "status": self.status,
            "run": self.run.name,
        }
        try:
            return self._save(self.run.results_dir)
        except ResultsError as error:
            with contextlib.suppress(OSError, ResultsError):
                kept = self._save(Path(tempfile.mkdtemp(prefix="sparse-syn-")))
                raise ResultsError(f"{error}\nthe result is kept in {kept}") from error
            raise

    def _save(self, folder: Path) -> Path:
        return save_results(
            folder,
            config.as_dict(self.exp),
            self.record.stats() | {"meta": self.meta},
            name=self.exp.name,
            seed=self.exp.seed,
            when=datetime.fromisoformat(self.meta["started"]),
            run=self.run.name,
        )

    def _same_machine(self, facts: dict[str, Any]) -> None:
        """Take the number of threads that the run was begun with: sums depend on it."""
        threads = int(facts["threads"])
        if threads != torch.get_num_threads():
            LOG.info("%d threads, as the run was begun with", threads)
            torch.set_num_threads(min(max(threads, 1), 4096))
            self.meta["threads"] = torch.get_num_threads()
        if facts["machine"] != self.meta["device_name"]:
            warn(
                f"the run was begun on {str(facts['machine'])[:100]!r}: on another machine its"
                " last bits may become others"
            )


def resume_command(args: Namespace, run: Run, default: Path) -> str:
    """The command that goes on with a run."""
    words = [Path(sys.argv[0]).name or "run_exps.py", "--resume", run.name]
    if args.results_dir != default:
        words += ["--results-dir", str(args.results_dir)]
    return "python " + shlex.join(words)


def progress_text(exp: Experiment, stream: TaskStream, place: Place) -> str:
    """Where the run is, for people."""
    count = len(stream.training)
    if place.task == count:
        return "all tasks done"
    epochs, task = epochs_of(exp, place.task), f"task {place.task + 1}/{count}"
    if place.epoch == epochs:
        return f"{task}, testing"
    return f"{task}, epoch {place.epoch + 1}/{epochs}, step {place.step}"


def share_done(exp: Experiment, stream: TaskStream, place: Place) -> float:
    """The share of all training steps that are done, from 0 to 1."""
    steps = [-(-len(task.train) // exp.mb_size) for task in stream.training]
    total = sum(n * epochs_of(exp, i) for i, n in enumerate(steps))
    done = sum(n * epochs_of(exp, i) for i, n in enumerate(steps[: place.task])) + place.step
    if place.task < len(steps):
        done += place.epoch * steps[place.task]
    return done / total


def data_digest(stream: TaskStream) -> str:
    """SHA-256 over all pictures and labels."""
    digest = hashlib.sha256()
    for pictures in (stream.train, stream.test):
        for tensor in (pictures.x, pictures.y):
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())


def _but_config(identity: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {part: values for part, values in identity.items() if part != "config"}
