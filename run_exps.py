"""Run continual-learning experiments: `python run_exps.py --name <experiment>`."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from pathlib import Path

from exps import cli, config

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says.

    Returns the exit status: 0 good, 1 failed, 2 wrong input, 130 Ctrl-C.
    """
    args = cli.parser(RESULTS).parse_args(argv)
    try:
        if args.list:
            return cli.show_sections(args.config)
        if args.explain is not None:
            return cli.show_keys(args.explain)
        if args.check:
            return cli.check_file(args.config)
        exp, warnings = config.load(args.name, args.config, cli.overrides(args))
    except config.ConfigError as error:
        return cli.fail(error, status=2)
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    try:
        return run(exp, args)
    except KeyboardInterrupt:
        return cli.fail("interrupted before training began: nothing to keep", status=130)


def run(exp: config.Experiment, args: Namespace) -> int:
    """Build stream, model and engine, train, and keep the result; torch is imported here."""
    from datetime import datetime

    from benchmarks import make_stream
    from benchmarks.datasets import DataError
    from models import ModelError, make_model
    from utils import summary
    from utils.engine import EngineError, make_engine, slow_precision
    from utils.progress import Progress
    from utils.results import ResultsError, check_writable, save_results
    from utils.runtime import (
        DeviceError,
        data_device,
        facts,
        keep_memory,
        pick_device,
        seed_everything,
    )
    from utils.training import DivergedError, empty_record, run_stream

    started = datetime.now()
    keep_memory()
    try:
        device = pick_device(exp.device)
        stream = make_stream(exp)
        order = seed_everything(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        if args.dry_run:
            print(summary.plan(exp, stream, model))
            return 0
        check_writable(args.results_dir)
        stream = stream.to(data_device(device, stream.train.x.nbytes + stream.test.x.nbytes))
        engine = make_engine(exp, model, stream, device)
    except (DataError, ModelError, DeviceError, EngineError, ResultsError) as error:
        return cli.fail(error, status=1)

    for text in slow_precision(exp, device):
        print(f"warning: {text}", file=sys.stderr)
    meta = facts(device, exp.seed, stream.source, started) | {"engine": engine.name}
    record, status, ended = empty_record(stream), 0, "complete"
    try:
        with Progress(len(stream.training), quiet=args.quiet) as progress:
            progress.say(summary.headline(exp, stream, engine))
            run_stream(exp, stream, engine, order, record, progress)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cost the result
        status, ended = 130, "interrupted"
    except DivergedError as error:
        status, ended = cli.fail(error, status=1), "diverged"
    if not args.quiet:
        print(summary.run_summary(record))
    meta |= {"ended": datetime.now().isoformat(timespec="seconds"), "status": ended}
    try:
        path = save_results(
            args.results_dir,
            config.as_dict(exp),
            record.stats() | {"meta": meta},
            name=exp.name,
            seed=exp.seed,
            when=started,
        )
    except ResultsError as error:
        return cli.fail(error, status=1)
    if status == 130:
        print("interrupted: the results so far are kept", file=sys.stderr)
    print(path if args.quiet else f"result: {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
