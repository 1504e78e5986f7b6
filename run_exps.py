"""Run continual-learning experiments: `python run_exps.py --name <experiment>`."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exps import cli, config, plugins
from exps.messages import Told, shown_path
from utils.system.failures import memory_explained, unexpected
from utils.system.log import RunLog
from utils.system.place import place
from utils.system.signals import Signals, Stopped, end_with_input
from utils.system.surroundings import loading, use_threads
from utils.system.talk import fail, say, say_path, talking, warn

if TYPE_CHECKING:
    from utils.runs.session import Session

RESULTS = Path(__file__).parent / "results"


@talking()
def main(argv: list[str] | None = None) -> int:
    """Do what the command line says.

    Returns the exit status: 0 good, 1 failed, 2 wrong input, 130 Ctrl-C, 143 SIGTERM.
    """
    args = cli.parser(RESULTS).parse_args(argv)
    plugins.source.cache_clear()  # of another command in this process
    args.kept = None
    try:
        cli.one_question(args)
        args.name = cli.names(args)
        if args.list:
            say(cli.sections_table(args.config))
            return 0
        if args.explain is not None:
            say(cli.explain(args))
            return 0
        if args.check:
            return check_file(args)
        if args.list_runs:
            return show_runs(args.results_dir)
        if args.check_results is not None:
            return check_results(args.check_results or args.results_dir)
    except Told as error:
        return fail(error, status=error.status)
    except Exception as error:
        if told := plugins.culprit(error):
            return fail(told, status=2)
        raise
    try:
        with RunLog(args.log_level) as log, Signals() as signals, ExitStack() as stack:
            status = begun(args, log, signals, stack)
    except Stopped as stop:  # while it began or ended
        return fail(stop, status=stop.status)
    if args.report and not args.dry_run and status in (0, 1):
        status = show_report(args) or status
        if not args.quiet and args.kept is not None:
            say_path(args.kept, quiet=False)  # the last line, as without a report
    return status


def begun(args: Namespace, log: RunLog, signals: Signals, stack: ExitStack) -> int:
    """Do what is more than a question; the exit status."""
    try:
        if args.company:
            signals.deaf = True  # it ends with those who are in it
            return serve_company(args)
        if args.worker:
            end_with_input()
        if not cli.wants_many(args):
            return run(args, log, signals, stack)
        from utils.many.command import run_many

        status = run_many(args, log, signals)
        if args.dry_run and status == 0 and args.executor != "ray":
            status = look_at_data(args)
        return status
    except Stopped as stop:
        return fail(stop, status=stop.status)
    except (Exception, SystemExit) as error:  # a user's file may end the program
        return fail(unexpected(error, log, args.results_dir), status=1)


def serve_company(args: Namespace) -> int:
    """Hold the networks of the runs that join, and train them together; see utils/many/local.py."""
    use_threads(args.threads)
    with loading():
        from benchmarks import make_stream
        from exps import ahead
        from models import make_model
        from utils.engines.stacked.company import serve
        from utils.system.runtime import pick_device, same_numbers_on_gpus, seed_everything

    def make(exp: config.Experiment) -> Any:
        stream = make_stream(exp)
        seed_everything(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        return stream, model, pick_device(exp.device)

    same_numbers_on_gpus()
    ahead.keep()  # every seed's stream has the same pictures
    serve(make)
    return 0


def show_report(args: Namespace) -> int:
    """Report on the runs of a command that asked for many, else on all results of the folder; 1 if
    one of them cannot be read.
    """
    from utils.report.write import show

    if not cli.wants_many(args):
        return show([args.results_dir], quiet=args.quiet)
    if not args.ran:
        say("no report: no run of this command has left a result", quiet=args.quiet)
        return 0
    return show(args.ran, quiet=args.quiet)


def check_file(args: Namespace) -> int:
    """Say which faults a configuration file has, or that it has none."""
    faults, warnings, good = cli.check_file(args)
    for text in faults:
        fail(text, status=2)
    for text in warnings:
        warn(text)
    if good:
        say(good)
    return 2 if faults else 0


def show_runs(results_dir: Path) -> int:
    """Print the unfinished runs. Raises ConfigError where there is no such folder."""
    from utils.runs import folder as runs

    if not results_dir.is_dir() and results_dir != RESULTS:
        raise config.ConfigError(
            f"--results-dir {shown_path(results_dir)}: there is no such folder"
        )
    say(runs.table(results_dir))
    return 0


def check_results(folder: Path) -> int:
    """Print which results are as expected; 0 when all are, 1 when not, 2 when there are none."""
    from utils.results import expected

    table, good = expected.check(folder)
    say(table)
    return 0 if good else 1


def look_at_data(args: Namespace) -> int:
    """Say what is to be known of the data of many runs, those of each kind once, and of networks
    that do not fit them; the exit status.

    Seeds are not told apart: what a task lacks depends on them little.
    """
    from benchmarks import make_stream
    from exps.plan import plan
    from models import require_fit

    def kind(exp: config.Experiment) -> tuple[object, ...]:
        own = plugins.keys(plugins.BENCHMARK, exp.benchmark)
        keys = ("benchmark", *own, "num_batch", "classes_per_task", "class_order", "validation")
        keys += ("data", "data_dir", "patience", "watched", "stream", "cumul", "scenario")
        return tuple(getattr(exp, key) for key in keys)

    planned = plan(args)[0]
    kinds = {kind(one.exp): one for one in reversed(planned)}
    status, shapes = 0, {}
    for one in reversed(kinds.values()):
        try:
            stream = make_stream(one.exp)
            shapes[kind(one.exp)] = stream.input_shape
            for text in stream.warnings:
                warn(f"{one.label}: {text}")
        except Told as error:
            status = max(status, fail(f"{one.label}: {error}", status=error.status))
    groups = {one.group: one.exp for one in planned}
    for exp in groups.values():
        try:
            require_fit(exp, shapes.get(kind(exp)))
        except Told as error:
            status = max(status, fail(error, status=error.status))
    return status


def run(args: Namespace, log: RunLog, signals: Signals, stack: ExitStack) -> int:
    """Find out what is to be run, build it, train, and keep the result; torch is imported here."""
    use_threads(args.threads)
    from utils.runs.folder import UNFIT, UnfitError

    try:
        session = prepared(args, log, stack)
    except Told as error:
        unfit = args.worker and isinstance(error, UnfitError)
        return fail(error, status=UNFIT if unfit else error.status)
    return session.run_to_the_end(signals) if session else 0


def prepared(args: Namespace, log: RunLog, stack: ExitStack) -> Session | None:
    """What is to be run, ready to train; None where it was only to be shown. Raises Told."""
    from benchmarks.digest import begin_to_load
    from exps import ahead
    from utils.runs.resume import chosen, wanted_device
    from utils.system.commit import commit

    exp, warnings, unfinished = chosen(args)
    # The command of many runs has told them.
    for text in warnings if not args.worker else ():
        warn(text)
    if unfinished is not None:
        args.results_dir = unfinished.results_dir
        stack.enter_context(unfinished.held())
    wanted = wanted_device(exp, unfinished)
    stack.enter_context(ahead.working())
    ahead.begin(commit)
    begin_to_load(exp)
    with loading():
        from benchmarks import make_stream
        from utils.engines.choose import slow_precision
        from utils.engines.stacked.company import RemoteEngine
        from utils.live.live import check as check_live
        from utils.results.files import check_writable
        from utils.runs import summary
        from utils.runs.beginning import begin
        from utils.runs.session import Session
        from utils.system.runtime import keep_memory, pick_device, same_numbers_on_gpus
        from utils.training.trainer import Trainer

    keep_memory()
    same_numbers_on_gpus()
    with memory_explained(exp):
        together = place()
        pick_device("cpu" if together else wanted)  # whether it is there, before data are
        stream = make_stream(exp)
        steps = [-(-len(task.train) // exp.mb_size) for task in stream.training]
        for text in (*stream.warnings, *config.never(exp, steps, stream.input_shape)):
            warn(text)
        if not args.dry_run:
            check_writable(args.results_dir)
        join = together and partial(RemoteEngine.joined, together, exp, stream=stream)
        trainer = Trainer.of(exp, stream, wanted, join)
        if not args.dry_run:
            check_live(args, exp, trainer.engine.model, len(stream.tasks))
        beginning = begin(trainer)
        if args.dry_run:
            first = beginning.first if beginning else 0
            say(summary.plan(exp, stream, trainer.engine, trainer.methods, first))
            return None
    for text in slow_precision(exp, trainer.engine.device) if not together else ():
        warn(text)
    session = Session(trainer, args, beginning)
    session.open(unfinished, log, stack)
    return session


if __name__ == "__main__":
    sys.exit(main())
