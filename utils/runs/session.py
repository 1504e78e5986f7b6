"""A run from its name to its result: begun or gone on with, kept safe, and ended in order."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from exps import VERSION, config
from exps.paths import near, typed, word
from exps.plugins import is_path, named_files, own_files
from utils.engines.stacked.company import RemoteEngine
from utils.live.live import Live, live, options
from utils.live.progress import Progress
from utils.results import expected, weights
from utils.results import files as results
from utils.results.about import file_of
from utils.results.files import ResultsError, os_errors_explained, result_name
from utils.runs import checkpoint
from utils.runs import folder as runs
from utils.runs.beginning import Beginning
from utils.runs.checkpoint_file import CheckpointError
from utils.runs.folder import Run
from utils.runs.identity import PLUS, code_digest, configuration, differences, uses
from utils.runs.keeper import Keeper
from utils.runs.past import past
from utils.runs.resume import require_same
from utils.runs.summary import headline, run_summary
from utils.system import times
from utils.system.failures import OutOfMemory, memory_explained, unexpected
from utils.system.log import RunLog
from utils.system.runtime import facts, instructions
from utils.system.signals import Signals, Stopped
from utils.system.talk import LOG, fail, harmless, note, say, say_path, warn
from utils.training.examiner import DivergedError
from utils.training.kept import about
from utils.training.record import BEFORE, TESTING, Length, Place
from utils.training.trainer import Trainer


class Session:
    """One run: what it is made of, and how far it has come."""

    run: Run  # from `open` on

    def __init__(
        self,
        trainer: Trainer,
        args: Namespace,
        beginning: Beginning | None = None,
    ) -> None:
        self.trainer, self.args = trainer, args
        exp, stream, engine = trainer.exp, trainer.stream, trainer.engine
        self.exp, self.stream, self.engine, self.methods = exp, stream, engine, trainer.methods
        self.record = trainer.record
        self.meta = facts(engine.device, exp.seed, stream.source, times.now())
        self.meta["together"] = 1
        if isinstance(engine, RemoteEngine):
            self.meta |= engine.facts
        self.meta |= {"engine": engine.name, "code": code_digest(uses(exp)), "data": stream.data}
        self.meta["changed"] = list(exp.changed)
        if is_path(exp.benchmark):
            self.meta["tested"] = [key for key, its in exp.keys.items() if its.tests]
        if beginning is not None:
            beginning.fill(trainer)
            self.meta["began_with"] = beginning.told
        self.resumed, self.serial, self.status = 0, 0, "running"
        self.kept, self.lost = set[int](), list[str]()  # tasks whose weights were to be written
        self.identity = {
            "config": configuration(exp),
            "program": {
                "version": VERSION,
                "commit": str(self.meta["commit"]),
                "code": str(self.meta["code"]),
                "torch": str(torch.__version__),
            },
            "data": {"data": stream.data},
            "files": {file: code_digest((file,)) for file in own_files(exp)},
            "weights": {} if beginning is None else {"begin_with (SHA-256)": beginning.digest},
        }

    def open(self, unfinished: Run | None, log: RunLog, stack: ExitStack) -> None:
        """Go on with a run that is held already, or begin one under a name of its own, and hold it
        until the stack ends.

        Raises RunError when it cannot be gone on with, ResultsError when it cannot be begun.
        """
        self.log, self.run = log, unfinished or self.begin(stack)
        log.open(self.run.log)
        if unfinished is not None:
            self.go_on()

    def begin(self, stack: ExitStack) -> Run:
        """Take a name, and leave a first checkpoint, so that the run is known from now on."""
        folder = self.args.results_dir
        with os_errors_explained(folder):
            self.serial = runs.next_serial(folder)
            run = runs.reserve(folder, result_name(self.exp.name, self.exp.seed, self.began))
            stack.enter_context(run.held())
            try:
                run.write(*self.take())
            except OSError:
                run.remove()
                raise
            return run

    @property
    def place(self) -> Place:
        """Where in the run training is."""
        return self.trainer.place

    @property
    def began(self) -> datetime:
        """When the run was begun, by the clock of that time."""
        return times.instant(self.meta["started"])

    def go_on(self) -> None:
        """Continue from the newest sound checkpoint. Raises RunError when that cannot be."""
        with runs.reading(self.run):
            self.run.remove_leftovers()
            path, found, tree, faults = self.run.newest(checkpoint.size_limit(self.engine))
            there, trust = found.get("identity"), self.args.trust_code
            require_same(self.run, there, self.identity, trust=trust)
            for fault in faults:
                warn(f"{fault}; the checkpoint before it is used")
            self._take_facts(found)
            place = checkpoint.put_back(tree, self.engine, self.methods, self.record)
            self.trainer.place = place
            self.run.set_aside(path)
        if self.exp.keep_weights == "tasks" and (lost := self._lost_weights()):
            warn(f"{lost[0]} is not there any more; to have it, begin the run anew")
        LOG.debug("gone on from %s", path)

    def _take_facts(self, found: dict[str, Any]) -> None:
        try:
            self.resumed, self.serial = int(found["resumed"]) + 1, int(found["serial"])
            self.meta["started"] = times.as_text(times.instant(found["started"]))
            self.meta["changed"] = [str(key) for key in found["changed"]]
            self.kept = {int(task) for task in found["kept"]}
            self._add_code(str(found["identity"]["program"]["code"]))
            self._same_threads(int(found["threads"]))
            self._same_machine(found["place"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"it lacks what a checkpoint has ({error!r:.100})") from error

    def take(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A checkpoint: its facts, and its tree."""
        facts = {
            "identity": self.identity,
            "started": self.meta["started"],
            "changed": self.meta["changed"],
            "place": self._place(),
            "threads": torch.get_num_threads(),
            "resumed": self.resumed,
            "serial": self.serial,
            "kept": sorted(self.kept),
            "progress": self.where(),
            "share": share_done(self.record.lengths, self.place),
            "seconds": self.record.elapsed,
        }
        return facts, checkpoint.take(self.engine, self.methods, self.record, self.place)

    def _add_code(self, there: str) -> None:
        """Of a run that other code has begun, and is trusted, say all that it was made with."""
        codes = there.split(PLUS)
        if codes[-1] != self.meta["code"]:
            codes.append(str(self.meta["code"]))
        if len(codes) > 1:
            self.meta["trusted_code"] = codes
            self.meta["code"] = self.identity["program"]["code"] = PLUS.join(codes)

    def run_to_the_end(self, signals: Signals) -> int:
        """Train, whatever ends it, keep the result, and only then tell of it; the exit status."""
        quiet = self.args.quiet
        with Progress(len(self.stream.training), quiet=quiet, done=self.place.task) as progress:
            with harmless("what is run cannot be told"):
                where = str(self.meta["device"])
                progress.say(headline(self.exp, self.stream, self.engine, where))
            if self.engine.why_not_faster:
                LOG.info("no faster engine: %s", self.engine.why_not_faster)
            if self.resumed:
                progress.say(f"going on with {self.run.name}: {self.where()}")
            told = self._listeners()
            keeper = Keeper(self.take, self.run.write, self.exp.checkpoint_every, signals)
            status, message = self._train(signals, progress, keeper, told)
        signals.deaf = True  # what is left takes no time, and must not be lost
        self.meta["checkpoints"] = keeper.costs
        path, faults = self._keep()
        faults += self.lost
        told.end()
        LOG.debug("checkpoints: %s", self.meta["checkpoints"])
        if self.status == "interrupted":
            note(message if path else "interrupted")
        elif message:
            fail(message, status=status)
        self._sum_up()
        for text in faults:
            status = fail(text, status=1)
        if self.run.begun():
            own = named_files(self.exp)
            # After an error the user's file will be another, which only they can trust.
            mended = self.args.trust_code or (self.status == "failed" and bool(own))
            more = [*options(self.args), *["--trust-code"] * mended]
            more += [word("--set", text) for text in own]
            note(f"to go on: {resume_command(self.run, more)}")
        if path is not None:
            self.args.kept = path
            say_path(path, quiet=quiet)
        return status

    def _sum_up(self) -> None:
        """Say what was measured, and whether that is what was expected."""
        with harmless("what was measured cannot be shown"):
            say(run_summary(self.record), quiet=self.args.quiet)
        with harmless("whether it is as expected cannot be told"):
            measured = {"accs": self.record.accs, "meta": self.meta}
            if met := expected.sentence(config.as_dict(self.exp), measured):
                say(met, quiet=self.args.quiet)

    def _listeners(self) -> Live:
        """Those who look on, with what has been before told."""
        with harmless("nobody is told of this run"):
            model, tasks = self.engine.model, len(self.stream.tasks)
            told = live(self.args, self.run.name, self.exp, model, tasks)
            told.begin(*past(self.record, self.place))
            return told
        return Live()

    def _train(
        self, signals: Signals, progress: Progress, keeper: Keeper, told: Live
    ) -> tuple[int, str]:
        """The exit status, and what to tell people of a bad end; `self.status` has it in a word."""
        signals.patient = True
        try:
            with memory_explained(self.exp, "training"), keeper:
                self.trainer.run(progress, self._keeping(keeper), told)
        except Stopped as stop:
            if stop.in_training:
                raise
            self.status = "interrupted"
            LOG.warning("interrupted by signal %d at %s", stop.number, self.where())
            return stop.status, "interrupted: the results so far are kept"
        except DivergedError as error:
            self.status, message = "diverged", str(error)
        except OutOfMemory as error:
            self.status, message = "out of memory", str(error)
        except (Exception, SystemExit) as error:  # a user's file may end the program
            self.status, message = "failed", unexpected(error, self.log, self.run.results_dir)
        else:
            self.status = "complete"
            return 0, ""
        return 1, message

    def _keep(self) -> tuple[Path | None, list[str]]:
        """Write the result, and remove what is not needed any more: where it is, and what went
        wrong with that."""
        faults: list[str] = []
        with self._noted(faults, ""):
            if self.status == "complete" and self.exp.keep_weights != "none":
                last = len(self.stream.training) - 1
                self.kept.add(last)
                self._keep_weights(None if self.exp.keep_weights == "final" else last)
                if not self.lost and (lost := self._lost_weights()):  # before it was resumed
                    self.lost.append(
                        f"{lost[0]} is not there; to have all weights, begin the run anew"
                    )
            path = self._save(self.run.results_dir)
            if self.status in ("complete", "diverged"):
                self.run.remove()
            return path, []
        if self.status in ("complete", "interrupted"):  # otherwise a step may be half done
            # All that was measured, for `--resume` to write the result once there is room.
            with self._noted(faults, "nor can a checkpoint be written: "):
                self.run.write(*self.take())
        with self._noted(faults, "nor can it be kept elsewhere: "):
            return self._save(Path(tempfile.mkdtemp(prefix="sparse-syn-"))), faults
        return None, faults

    @contextmanager
    def _noted(self, faults: list[str], what: str) -> Iterator[None]:
        """Whatever fails inside is one more fault, for people."""
        try:
            yield
        except (OSError, ResultsError) as error:
            faults.append(f"{what}{getattr(error, 'strerror', None) or error}")
        except Exception as error:
            faults.append(what + unexpected(error, self.log, self.run.results_dir))

    def _keeping(self, keeper: Keeper) -> Callable[[bool], None]:
        """The keeper; before it, where every task's are to be kept, the weights after a task."""
        if self.exp.keep_weights != "tasks":
            return keeper

        def keep(done: bool) -> None:
            tested = done and self.place.phase == BEFORE  # but after the last task: see `_keep`
            if tested and (task := self.place.task - 1) not in self.kept:
                self.kept.add(task)
                try:
                    self._keep_weights(task)
                except ResultsError as error:
                    self.lost.append(f"the weights after task {task + 1} are not kept: {error}")
                    warn(self.lost[-1])
            keeper(done)

        return keep

    def _keep_weights(self, task: int | None = None) -> None:
        """Write the network as it is now, after a task or in the end."""
        trained = len(self.stream.training) if task is None else task + 1
        names = ("version", "commit", "code", "torch", "device", "engine", "data", "started")
        made = {"run": self.run.name} | {name: str(self.meta[name]) for name in names}
        parts = self.exp, self.stream, self.engine, self.methods, self.record, trained, made
        weights.save(self.run.results_dir / file_of(self.run.name, task), *about(*parts))

    @property
    def _weights(self) -> list[str]:
        """The names of the files of weights that there should be by now."""
        if self.exp.keep_weights == "final":
            return [file_of(self.run.name)] if self.status == "complete" else []
        return [file_of(self.run.name, task) for task in sorted(self.kept)]

    def _lost_weights(self) -> list[str]:
        """Those of them that are not there."""
        return [name for name in self._weights if not (self.run.results_dir / name).is_file()]

    def where(self) -> str:
        """Where the run is, for people."""
        place, lengths = self.place, self.record.lengths
        if place.task == len(lengths):
            return "all tasks done"
        epochs, task = lengths[place.task].epochs, f"task {place.task + 1}/{len(lengths)}"
        if place.phase == TESTING:
            return f"{task}, testing"
        if place.read:
            return f"{task}, {place.read} pictures read"
        return f"{task}, epoch {min(place.epoch + 1, epochs)}/{epochs}, step {place.step}"

    def _save(self, folder: Path) -> Path:
        self.meta |= {"ended": times.as_text(times.now()), "status": self.status}
        self.meta |= {"run": self.run.name, "resumed": self.resumed}
        self.meta["why_not_faster"] = self.engine.why_not_faster
        if self.exp.keep_weights != "none":
            lost = self._lost_weights()
            self.meta["weights"] = [name for name in self._weights if name not in lost]
            if lost:
                self.meta["lost_weights"] = lost
        return results.save_results(
            folder,
            config.as_dict(self.exp),
            self.record.stats() | {"meta": self.meta},
            run=self.run.name,
        )

    def _same_threads(self, threads: int) -> None:
        """Take the number of threads that the run was begun with: sums depend on it."""
        if self.args.threads is not None and threads != self.args.threads:
            warn(
                f"the run was begun with {threads} thread(s): with {self.args.threads} its last"
                " bits may become others"
            )
        elif threads != torch.get_num_threads():
            say(f"{threads} thread(s), as the run was begun with", quiet=self.args.quiet)
            torch.set_num_threads(min(max(threads, 1), 1024))
            self.meta["threads"] = torch.get_num_threads()

    def _place(self) -> dict[str, str]:
        """What the last bits of numbers depend on."""
        name = str(self.meta["device_name"])
        # The sums of a stack depend on how many are in it.
        count = int(str(self.meta["together"]))
        stack = {"together": str(count)} if count > 1 else {}
        kind = str(self.meta["device"]).partition(":")[0]
        return (
            {"device": kind, "machine": name, "engine": self.engine.name}
            | stack
            | ({"instructions": instructions()} if kind == "cpu" else {})
        )

    def _same_machine(self, there: dict[str, str]) -> None:
        """Warn where the run was begun in a place whose numbers are others."""
        found = differences({"place": there}, {"place": self._place()})
        if any(line.startswith("device: ") for line in found):
            what = "there dropout draws other numbers, and the result becomes another"
        else:
            what = "there its last bits may become others"
        if found:
            warn(f"the run was begun in another place ({'; '.join(found)}): {what}")


def resume_command(run: Run, options: Sequence[str] = ()) -> str:
    """The command that goes on with a run, as it is typed."""
    return typed(["python", "run_exps.py", "--resume", str(near(run.folder)), *options])


def share_done(lengths: Sequence[Length], place: Place) -> float:
    """The share of all training steps that are done, from 0 to 1; without any, that of tasks."""
    first, tasks = place.first, len(lengths)
    done = sum(length.total for length in lengths[first : place.task]) + place.step
    if place.task < tasks:
        done += min(place.epoch * lengths[place.task].epoch, lengths[place.task].total)
    total = sum(length.total for length in lengths[first:])
    return done / total if total else (place.task - first) / (tasks - first)
