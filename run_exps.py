"""Run continual-learning experiments: `python run_exps.py --name <experiment>`."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from exps import cli, config
from utils.failures import OutOfMemory, memory_explained, unexpected
from utils.log import RunLog, say, warn
from utils.pipes import outlived
from utils.stopping import Signals, Stopped, end_with_input

RESULTS = Path(__file__).parent / "results"


@outlived()
def main(argv: list[str] | None = None) -> int:
    """Do what the command line says.

    Returns the exit status: 0 good, 1 failed, 2 wrong input, 130 Ctrl-C, 143 SIGTERM.
    """
    args = cli.parser(RESULTS).parse_args(argv)
    try:
        if args.list:
            return cli.show_sections(args.config)
        if args.explain is not None:
            return cli.show_keys(args.explain)
        if args.check:
            return cli.check_file(args)
        if args.list_runs:
            return show_runs(args.results_dir)
        if args.check_results is not None:
            return check_results(Path(args.check_results or args.results_dir))
    except config.ConfigError as error:
        return cli.fail(error, status=2)
    with RunLog(args.log_level) as log, Signals() as signals, ExitStack() as stack:
        try:
            if args.worker:
                end_with_input()
            if cli.wants_many(args):
                from utils.many import run_many

                status = run_many(args, log, signals)
            else:
                status = run(args, log, signals, stack)
        except Stopped as stop:
            return cli.fail(stop, status=stop.status)
        except Exception as error:
            return cli.fail(unexpected(error, log, args.results_dir), status=1)
    if args.report and not args.dry_run and status in (0, 1):
        return show_report(args) or status
    return status


def show_report(args: Namespace) -> int:
    """Report on all results of the folder; 1 if one of them cannot be read."""
    from utils.report.terminal import show

    return show([args.results_dir], quiet=args.quiet)


def show_runs(results_dir: Path) -> int:
    """Print the unfinished runs."""
    from utils import runs

    print(runs.table(results_dir))
    return 0


def check_results(folder: Path) -> int:
    """Print which results are as expected; 0 when all are, 1 when not, 2 when there are none."""
    from utils import expected

    try:
        table, good = expected.check(folder)
    except expected.NothingToCheckError as error:
        return cli.fail(error, status=2)
    print(table)
    return 0 if good else 1


def run(args: Namespace, log: RunLog, signals: Signals, stack: ExitStack) -> int:
    """Find out what is to be run, build it, train, and keep the result; torch is imported here."""
    from utils.resume import chosen, wanted_device
    from utils.runs import UNFIT, RunError, UnfitError

    def refused(error: Exception) -> int:
        return UNFIT if args.worker and isinstance(error, UnfitError) else 2

    try:
        exp, warnings, unfinished = chosen(args)
        for text in warnings:
            warn(text)
        if unfinished is not None:
            args.results_dir = unfinished.results_dir
            stack.enter_context(unfinished.held())
        wanted = wanted_device(exp, unfinished)
    except (config.ConfigError, RunError) as error:
        return cli.fail(error, status=refused(error))

    from benchmarks import make_stream
    from benchmarks.datasets import DataError
    from models import ModelError, make_model
    from utils import summary
    from utils.engine import EngineError, make_engine, slow_precision
    from utils.live.base import LiveError
    from utils.live.live import check as check_live
    from utils.results import ResultsError, check_writable
    from utils.runtime import DeviceError, data_device, keep_memory, pick_device, seed_everything
    from utils.session import Session

    keep_memory()
    try:
        with memory_explained(exp):
            device = pick_device(wanted)
            stream = make_stream(exp)
            order = seed_everything(exp.seed)
            model = make_model(exp, stream.input_shape, stream.head_sizes)
            if args.dry_run:
                say(summary.plan(exp, stream, model))
                return 0
            check_writable(args.results_dir)
            check_live(args, model, len(stream.tasks))
            stream = stream.to(data_device(device, stream.train.x.nbytes + stream.test.x.nbytes))
            engine = make_engine(exp, model, stream, device)
        for text in slow_precision(exp, device):
            warn(text)
        session = Session(exp, stream, engine, order, args)
        stack.enter_context(session.opened(unfinished, log))
    except (DataError, ModelError, DeviceError, EngineError, OutOfMemory) as error:
        return cli.fail(error, status=1)
    except (ResultsError, LiveError) as error:
        return cli.fail(error, status=1)
    except RunError as error:
        return cli.fail(error, status=refused(error))
    return session.run_to_the_end(signals)


if __name__ == "__main__":
    sys.exit(main())
