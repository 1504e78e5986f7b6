"""The command that does many runs, from its options to its exit status."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import digest
from exps import cli, plugins
from exps.config import Experiment
from exps.messages import ConfigError, Told, shown_path
from exps.paths import word
from exps.plan import Planned, plan
from exps.rules import stacks
from utils.many.display import Display, summary, table
from utils.many.local import Local, visible_gpus
from utils.many.order import FAILED, INTERRUPTED, NOT_BEGUN, Order, Outcome
from utils.many.states import Folder, State, read_known
from utils.results.files import check_writable
from utils.runs.folder import FOLDER, RunError
from utils.runs.identity import (
    Wanted,
    code_digest,
    configuration,
    fingerprint,
    torch_version,
    uses,
)
from utils.system.cores import cores
from utils.system.log import RunLog
from utils.system.signals import Signals, Stopped
from utils.system.talk import LOG, fail, harmless, note, say, say_path, warn

if TYPE_CHECKING:  # Ray may not be there
    from utils.many.on_ray import OnRay

SHOWN = 5  # of what does not count
MOST_TOGETHER = 16  # seeds, unless more are asked for
ENDED = ("done", "diverged")  # states of runs that are not begun again


@dataclass
class Job:
    """One run: what it is, how far it was, and what becomes of it if nothing is heard of it any
    more: a second Ctrl-C does not wait for it."""

    planned: Planned
    wanted: Wanted
    state: State
    outcome: Outcome


def run_many(args: Namespace, log: RunLog, signals: Signals) -> int:
    """Do all runs that the command line asks for; the exit status. Their results: `args.ran`.

    0: all are done, or other processes work on them; 1: some failed; 2: a combination is wrong,
    and nothing was begun; 130 or 143: interrupted.
    """
    args.ran = []
    try:
        jobs = find_jobs(args)
        if args.dry_run:
            say(table([job.planned.label for job in jobs], [job.state for job in jobs]))
            return 0
        orders = make_orders(args, jobs)
        if orders:
            check_writable(args.results_dir)
            executor = _executor(args, orders)
            log.open(_log_path(args.results_dir))
    except ConfigError as error:
        return fail(error, status=2)
    except Told as error:  # what the machines lack
        return fail(error, status=1)
    _show_skipped(jobs, quiet=args.quiet)
    if orders:
        say(f"{len(orders)} of {len(jobs)} runs to do, {executor}", quiet=args.quiet)
        _work(jobs, orders, executor, signals, quiet=args.quiet)
    status = _finish(jobs, log, signals, quiet=args.quiet)
    args.ran = sorted({job.outcome.path for job in jobs if job.outcome.path})
    return status


def find_jobs(args: Namespace) -> list[Job]:
    """All runs, and how far each is; prints warnings. Raises ConfigError when one is wrong."""
    planned, notes = plan(args)
    folder, wanted = Folder(args.results_dir), _wanted(planned, trust=args.trust_code)
    jobs: dict[object, Job] = {}
    for one, its in zip(planned, wanted, strict=True):
        state = folder.state(its, again=args.again)
        ended = state.outcome(len(jobs)) if state.kind in ENDED else None
        job = Job(one, its, state, ended or Outcome(len(jobs), INTERRUPTED))
        jobs.setdefault(its if its.data else one.exp, job)
    if len(jobs) < len(planned):
        notes.append(f"of {len(planned)} runs {len(jobs)} differ, as data are the same: done once")
    for path in folder.unreadable:
        what = "a run" if path.parent.name == FOLDER else "a result"
        notes.append(f"{shown_path(path)} cannot be read as {what}, and counts for nothing")
    for text in (*notes, *_apart(folder, [*jobs.values()], again=args.again)):
        warn(text)
    return [*jobs.values()]


def _wanted(planned: list[Planned], *, trust: bool) -> list[Wanted]:
    """What each run must be to count as done or begun: code and data are read once each."""
    code_of = cache(code_digest)
    data: dict[tuple[object, ...], str] = {}
    found = []
    for exp in (one.exp for one in planned):
        of = exp.benchmark, exp.dataset, exp.data, exp.data_dir
        if of not in data or exp.dataset is None:  # else its pictures may depend on any key
            data[of] = digest.of_experiment(exp)
        key, code = fingerprint(configuration(exp)), code_of(uses(exp))
        found.append(Wanted(key, code, data[of], trust, exp.keep_weights))
    return found


def _apart(folder: Folder, jobs: list[Job], *, again: bool) -> Iterator[str]:
    """Notes on what is there of these configurations and is not what is asked for."""
    found = [folder.others(job.wanted) for job in jobs if job.state.kind == "new"]
    for part, what in enumerate(("results", "runs")):
        texts = [text for others in found for text in others[part]]
        if texts and not (again and what == "results"):
            more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
            yield (
                f"there are {what} of these configurations that do not count: "
                f"{', '.join(texts[:SHOWN])}{more}; they stay as they are, and these runs are begun"
                " anew"
            )
    done = [read_known(job.state.path) for job in jobs if job.state.path]
    here = torch_version()
    others = sorted({known.torch for known in done if known and known.torch.split("+")[0] != here})
    if others and here:
        yield f"some of what is done was made with torch {', '.join(others)}; here is {here}"


def make_orders(args: Namespace, jobs: list[Job]) -> list[Order]:
    """What is to be done, runs that other processes work on last. Raises ConfigError."""
    together = _together(args, jobs)
    try:
        contents = args.config.read_bytes()
    except OSError as error:
        raise ConfigError(f"{shown_path(args.config)}: cannot be read: {error.strerror}") from error
    found = [
        Order(
            number=number,
            label=job.planned.label,
            group=job.planned.group,
            wanted=job.wanted,
            claim=_claim(job),
            device=job.planned.exp.device,
            words=(
                word("--name", job.planned.exp.name),
                *(word("--set", text) for text in job.planned.overrides),
                # As they are called here: a worker may be in another folder.
                *(word("--set", text) for text in plugins.named_files(job.planned.exp)),
                *cli.handed_on(args),
            ),
            config=contents,
            files={f: plugins.source(f) for f in plugins.own_files(job.planned.exp)},
            results_dir=args.results_dir,
            folder=Path.cwd(),
            again=args.again,
            together=together[job.planned.group],
        )
        for number, job in enumerate(jobs)
        if job.state.kind not in ENDED
    ]
    return sorted(found, key=lambda order: jobs[order.number].state.kind == "in use")


def _together(args: Namespace, jobs: list[Job]) -> dict[str, int]:
    """How many seeds of each group are trained as one: of those that are done as well, so that what
    is gone on with is computed as before. Raises ConfigError where that cannot be."""
    seeds = Counter(job.planned.group for job in jobs)
    alone = dict.fromkeys(seeds, 1)
    asked = MOST_TOGETHER if args.together is None else args.together
    if asked == 1:
        return alone
    why = ""
    if args.executor == "ray":
        why = "--executor ray gives every run a place of its own"
    elif args.jobs is not None:
        why = "--jobs says how many are trained side by side instead"
    elif any(not stacks(job.planned.exp) for job in jobs):
        why = "it is for MLPs that sgd trains, without methods (docs/many.md)"
    elif not all(_on_a_gpu(job.planned.exp, args.together) for job in jobs):
        why = "it is for device = auto or cuda, and a GPU (engine = stacked: on a CPU too, slower)"
    if why and args.together is not None:
        raise ConfigError(f"--together {args.together}: {why}")
    return alone if why else {group: min(asked, count) for group, count in seeds.items()}


def _on_a_gpu(exp: Experiment, asked: int | None) -> bool:
    """Whether the engine that trains seeds as one is taken: on a GPU, or where it and a number of
    seeds are asked for."""
    if exp.engine == "stacked" and asked is not None:
        return exp.device in ("auto", "cuda", "cpu")
    by_itself = exp.engine in ("auto", "stacked") and exp.device in ("auto", "cuda")
    return by_itself and bool(visible_gpus())


def _claim(job: Job) -> str:
    """The same in every command; where the data are not known, where they will be says it."""
    data = job.wanted.data or str(Path(job.planned.exp.data_dir).absolute())
    return hashlib.sha256(f"{job.wanted.key} {data}".encode(errors="replace")).hexdigest()[:16]


def _executor(args: Namespace, orders: list[Order]) -> Local | OnRay:
    """Where the command line wants them carried out. Raises RunError when that cannot be."""
    if args.executor == "ray":
        try:
            from utils.many.on_ray import OnRay
        except ImportError as error:
            raise RunError(
                "--executor ray: Ray is not there",
                str(error),
                "pip install -r requirements-ray.txt, or leave out --executor ray",
            ) from error
        return OnRay(args.address, args.jobs, args.threads or 1)
    gpus = [] if all(order.device == "cpu" for order in orders) else visible_gpus()
    together = max(order.together for order in orders)
    return Local(args.jobs, args.threads, gpus, cores(), together=together)


def _log_path(results_dir: Path) -> Path:
    """A name for the log of this command that no other has; where none can be written, any."""
    stem, number = f"many_{datetime.now():%Y-%m-%d_%H-%M-%S}", 1
    while True:
        path = results_dir / f"{stem}{'' if number == 1 else f'_{number}'}.log"
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1
        except OSError:
            return path


def _show_skipped(jobs: list[Job], *, quiet: bool) -> None:
    """What is done already: the paths for scripts, or how many for people."""
    done = [job.state.path for job in jobs if job.state.kind == "done" and job.state.path]
    diverged = sum(job.state.kind == "diverged" for job in jobs)
    if quiet:
        for path in done:
            say_path(path, quiet=True)
    elif done or diverged:
        said = [f"{len(done)} are done already"] if done else []
        said += [f"{diverged} diverged before"] if diverged else []
        say(f"of {len(jobs)} runs {' and '.join(said)}: skipped (--again repeats them)")


def _work(
    jobs: list[Job], orders: list[Order], executor: Local | OnRay, signals: Signals, *, quiet: bool
) -> None:
    """Have the orders carried out, until all have ended or a second Ctrl-C."""
    outcomes = executor.work(orders)
    states = {order.number: jobs[order.number].state for order in orders}
    asked = False
    with closing(Display(orders, states, len(jobs), quiet=quiet)) as display:
        try:
            signals.patient = True
            for outcome in outcomes:
                if signals.received is not None and not asked:
                    asked = True
                    executor.end()
                    say("stopping: runs write their checkpoints (Ctrl-C again: at once)")
                if outcome is not None:
                    jobs[outcome.number].outcome = outcome
                with harmless("how far the runs are cannot be shown"):
                    display.look() if outcome is None else display.ended_with(outcome)
        except Stopped:
            signals.deaf = True
            outcomes.close()
        signals.deaf = True


def _finish(jobs: list[Job], log: RunLog, signals: Signals, *, quiet: bool) -> int:
    """Say what has become of all runs; the exit status."""
    ended = [(job.planned.label, job.outcome) for job in jobs]
    kinds = Counter(outcome.kind for _, outcome in ended)
    with harmless("what has become of the runs cannot be shown"):
        text = summary(ended, log.path)
        if quiet and kinds[FAILED]:
            note(text)
        else:
            say(text, quiet=quiet)
    if signals.received is not None and (kinds[INTERRUPTED] or kinds[NOT_BEGUN]):
        LOG.warning("interrupted by signal %d", signals.received)
        note("interrupted; to go on: the same command again")
        return 128 + signals.received
    return 1 if kinds[FAILED] else 0
