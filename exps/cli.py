"""The command line's words: its options, and the answers that need neither data nor torch."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from exps import VERSION, config

LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG = logging.getLogger("sparse_syn")
_LOG.addHandler(logging.NullHandler())  # without a log, nothing is said twice


def parser(results: Path) -> argparse.ArgumentParser:
    """All options of run_exps.py; `results` is where results go by default."""
    p = argparse.ArgumentParser(
        prog="run_exps.py",
        description="Continual learning with sparse networks: trains the experiment that a section"
        " of the configuration file describes, task after task, and leaves a result pickle.",
        epilog="Without --name the section [DEFAULT] is run. --explain says what each key means.",
        allow_abbrev=False,
    )
    p.add_argument("--name", metavar="NAME", help="the section to run")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key; may be repeated",
    )
    p.add_argument("--seed", metavar="N", help="the same as --set seed=N")
    p.add_argument(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; as --set device="
    )
    p.add_argument(
        "--config",
        type=Path,
        default=config.DEFAULT_FILE,
        metavar="FILE",
        help="the configuration file",
    )
    p.add_argument(
        "--results-dir",
        type=Path,
        default=results,
        metavar="DIR",
        help="where the result is written",
    )
    p.add_argument(
        "--quiet", action="store_true", help="print only the path of the result, and errors"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="show what would be run, and how much work it is"
    )
    p.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with an unfinished run, by its name or path (without RUN: with the newest of"
        " this configuration)",
    )
    p.add_argument(
        "--log-level",
        default="info",
        choices=LOG_LEVELS,
        help="how much goes into the log beside the result (default: info)",
    )
    p.add_argument(
        "--report",
        action="store_true",
        help="after the run, report on all results of the folder (as python -m utils.report DIR)",
    )
    p.add_argument("--list", action="store_true", help="the sections, with a line on each")
    p.add_argument(
        "--list-runs", action="store_true", help="unfinished runs, with progress and age"
    )
    p.add_argument("--check", action="store_true", help="check every section of the file")
    p.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="KEY",
        help="what a key means (without KEY: all keys)",
    )
    p.add_argument("--version", action="version", version=f"sparse-syn {VERSION}")
    return p


def overrides(args: argparse.Namespace) -> list[str]:
    """Every `key=value` of the command line, those of --seed and --device last."""
    given = list(args.set)
    if args.seed is not None:
        given.append(f"seed={args.seed}")
    if args.device is not None:
        given.append(f"device={args.device}")
    return given


def show_sections(path: Path) -> int:
    """Print the sections of a file, a line each."""
    found = config.sections(path)
    width = max(map(len, found))
    for name, description in found.items():
        print(f"{name:<{width}}  {description}".rstrip())
    return 0


def show_keys(key: str) -> int:
    """Print what a key means, or all of them for an empty string."""
    print(config.explain(key or None))
    return 0


def check_file(path: Path) -> int:
    """Check every section; prints the problems, or how many sections are fine."""
    problems = config.check(path)
    if problems:
        for problem in problems:
            fail(problem, status=2)
        return 2
    for warning in config.check_warnings(path):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{path}: {len(config.sections(path))} sections, all good")
    return 0


def fail(message: object, *, status: int) -> int:
    """Print an error for people, and log it; returns the exit status."""
    _LOG.error(message)
    print(f"error: {message}", file=sys.stderr)
    return status
