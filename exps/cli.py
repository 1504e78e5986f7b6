"""The command line's words: its options, and the answers that need neither data nor torch."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path
from typing import Any

from exps import VERSION, config
from exps.messages import ConfigError, all_of, quoted, shown, shown_path
from exps.paths import expanded, path, word

LOG_LEVELS = ("debug", "info", "warning", "error")
# Options that each of many runs is given too.
PER_RUN = ("log_level", "tensorboard", "csv", "trust_code")
Group = argparse._ArgumentGroup  # there is no public name for its type


def new_parser(**options: Any) -> argparse.ArgumentParser:
    """A parser that takes no shortened options, and whose help has no colours."""
    if sys.version_info >= (3, 14):
        options["color"] = False
    return _Parser(allow_abbrev=False, **options)


class _Parser(argparse.ArgumentParser):
    """One that takes `--name=--` for what it says, which Python's own does from 3.13 on."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if arg_strings == ["--"] and action.nargs is None:
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)


def parser(results: Path) -> argparse.ArgumentParser:
    """All options of run_exps.py; `results` is where results go by default."""
    p = new_parser(
        prog="run_exps.py",
        description="Continual learning with sparse networks: trains the experiment that a section"
        " of the configuration file describes, task after task, and leaves a result pickle.",
        epilog="Without --name the section [DEFAULT] is run. --explain says what each key means.",
    )
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # see utils/many
    p.add_argument("--company", action="store_true", help=argparse.SUPPRESS)
    _add_what(p.add_argument_group("what to run"))
    _add_outcome(p.add_argument_group("what comes of it"), results)
    _add_many(p)
    _add_questions(p.add_argument_group("questions, which run nothing"))
    return p


def _add_what(g: Group) -> None:
    """The options that say which experiment."""
    g.add_argument(
        "--name",
        action="append",
        metavar="NAME",
        help="the section to run; may be repeated; a pattern, such as 'Split*', is all that match",
    )
    g.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key; may be repeated",
    )
    g.add_argument("--seed", metavar="N", help="the same as --set seed=N")
    g.add_argument(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; as --set device="
    )
    g.add_argument(
        "--threads",
        type=_count,
        metavar="N",
        help="threads of a run (default: OMP_NUM_THREADS, else the cores that may be used; of many"
        " runs at a time, their part of the cores; with Ray 1)",
    )
    g.add_argument(
        "--config",
        type=path_of,
        default=config.DEFAULT_FILE,
        metavar="FILE",
        help="the configuration file",
    )
    g.add_argument(
        "--resume",
        nargs="?",
        const=False,
        type=path_text,
        metavar="RUN",
        help="go on with an unfinished run, by its name or path (without RUN: with the newest of"
        " this configuration)",
    )
    g.add_argument(
        "--continue",
        dest="go_on",
        type=path_text,
        metavar="RESULT",
        help="train the network that a run has kept (keep_weights) on: as its own experiment with"
        " what --set changes (--set num_batch=12: more tasks), or on the tasks of --name",
    )
    g.add_argument(
        "--trust-code",
        action="store_true",
        help="take runs of other code for the same: go on with unfinished ones (the result says"
        " so), and among many runs count finished ones as done",
    )


def _add_outcome(g: Group, results: Path) -> None:
    """The options for results and for what is told meanwhile."""
    g.add_argument(
        "--results-dir",
        type=path_of,
        default=results,
        metavar="DIR",
        help="where the result is written",
    )
    g.add_argument(
        "--report",
        action="store_true",
        help="after the run, report on all results of the folder (as python -m utils.report DIR);"
        " after many runs, on these",
    )
    g.add_argument(
        "--tensorboard",
        type=path_text,
        metavar="DIR",
        help="what is measured, while the run goes on, for TensorBoard: a folder a run below DIR",
    )
    g.add_argument(
        "--csv",
        type=path_text,
        metavar="FILE",
        help="the same as lines of a CSV file, one an epoch and one a test; FILE/ with a slash"
        " behind it: a folder with a file a run",
    )
    g.add_argument(
        "--quiet", action="store_true", help="print only the path of the result, and errors"
    )
    g.add_argument(
        "--log-level",
        default="info",
        choices=LOG_LEVELS,
        help="how much goes into the log beside the result (default: info)",
    )


def _add_questions(g: Group) -> None:
    """The options that are answered at once."""
    g.add_argument(
        "--dry-run", action="store_true", help="show what would be run, and how much work it is"
    )
    g.add_argument("--list", action="store_true", help="the sections, with a line on each")
    g.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="KEY",
        help="what a key means, or a method or network does, with its keys (without KEY: all keys)",
    )
    g.add_argument(
        "--check",
        action="store_true",
        help="check every section of the file, or those of --name, with what --set changes",
    )
    g.add_argument(
        "--check-results",
        nargs="?",
        const=False,
        type=path_of,
        metavar="DIR",
        help="whether the results in a folder (without DIR: in that of --results-dir) have the"
        " accuracy that their sections expect",
    )
    g.add_argument(
        "--list-runs", action="store_true", help="unfinished runs, with progress and age"
    )
    g.add_argument("--version", action="version", version=f"sparse-syn {VERSION}")


def _add_many(p: argparse.ArgumentParser) -> None:
    """The options that ask for several runs."""
    g = p.add_argument_group(
        "many runs",
        "Every --name with every value of --grid and every seed. What is done already is skipped,"
        " what is unfinished is gone on with (docs/many.md).",
    )
    g.add_argument("--seeds", metavar="LIST", help="seeds and ranges of them, such as 0-4,7")
    g.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=A,B,...",
        help="values of a key; may be repeated for other keys (values with commas: KEY=A;B)",
    )
    g.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="runs at a time (default: one a GPU, without GPUs one; with Ray what the cluster can)",
    )
    g.add_argument(
        "--together",
        type=_together,
        default=None,
        metavar="N",
        help="seeds of a section that are trained as one, in the same steps: a number, or auto (the"
        " default): up to 16 where a GPU has an engine for that, else 1",
    )
    g.add_argument("--again", action="store_true", help="repeat runs that are done already")
    g.add_argument(
        "--executor",
        choices=("local", "ray"),
        help="where runs are worked on: processes on this machine (default), or a Ray cluster",
    )
    g.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: $RAY_ADDRESS, or"
        " a Ray of its own on this machine)",
    )


def _count(text: str) -> int:
    """A whole number from 1 to 10,000."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r}: choose a whole number from 1 to 10000")
    return int(text)


def _together(text: str) -> int | None:
    """A whole number, or None for auto."""
    return None if text == "auto" else _count(text)


def path_text(text: str) -> str:
    """A path of the command line as text (see `paths.expanded`)."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def path_of(text: str) -> Path:
    """The same as `paths.path` makes it."""
    return path(path_text(text))


def one_question(args: argparse.Namespace) -> None:
    """Raise ConfigError where several are asked."""
    asked = {
        "--list": args.list,
        "--explain": args.explain is not None,
        "--check": args.check,
        "--list-runs": args.list_runs,
        "--check-results": args.check_results is not None,
        "--dry-run": args.dry_run,
    }
    if len(found := [name for name, its in asked.items() if its]) > 1:
        raise ConfigError(f"{all_of(found)} are questions, of which one is answered; keep one")


def names(args: argparse.Namespace) -> list[str] | None:
    """The sections that --name asks for, patterns written out; None without any. Raises
    ConfigError for a pattern that none matches."""
    found: list[str] = []
    for name in args.name or ():
        match = [name]
        if any(sign in name for sign in "*?") and name not in config.sections(args.config):
            match = fnmatch.filter(config.sections(args.config), name)
            if not match:
                where = shown_path(args.config)
                raise ConfigError(f"{where}: no section is like {quoted(name)}; --list shows all")
        found += match
    return found or None


def wants_many(args: argparse.Namespace) -> bool:
    """Whether any option of many runs is given, or several names."""
    options = ("seeds", "grid", "jobs", "together", "again", "executor", "address")
    given = [getattr(args, option) for option in options]
    return len(args.name or []) > 1 or any(value not in (None, False, []) for value in given)


def handed_on(args: argparse.Namespace) -> list[str]:
    """The options of PER_RUN that are given, as the command line of each of many runs has them."""
    words: list[str] = []
    for name in PER_RUN:
        option, value = "--" + name.replace("_", "-"), getattr(args, name)
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(word(option, str(value)))
    return words


def overrides(args: argparse.Namespace) -> list[str]:
    """Every `key=value` of the command line, those of options of their own last."""
    given = list(args.set)
    if args.go_on is not None:
        given.append(f"begin_with={args.go_on}")
    if args.seed is not None:
        given.append(f"seed={args.seed}")
    if args.device is not None:
        given.append(f"device={args.device}")
    return given


def explain(args: argparse.Namespace) -> str:
    """What a key is, or all are: also those of the files that --name and --set ask for."""
    own = None
    if args.name or args.set:
        name = (args.name or ["DEFAULT"])[0]
        own = config.resolve(name, args.config, overrides(args)).experiment.keys
    return config.explain(args.explain or None, own)


def sections_table(path: Path) -> str:
    """The sections of a file, a line each. Raises ConfigError."""
    found = [(shown(name), text) for name, text in config.sections(path).items()]
    width = max(len(name) for name, _ in found)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in found)


def check_file(args: argparse.Namespace) -> tuple[list[str], list[str], str]:
    """The faults of every section, or of those named, with what --set changes; the warnings about
    them; and how many sections are fine where there is no fault."""
    problems, warnings = config.check(args.config, args.name or [], overrides(args))
    if problems:
        return problems, [], ""
    count = len(set(args.name or config.sections(args.config)))
    good = f"{shown_path(args.config)}: {count} section{'s' if count > 1 else ''}, all good"
    return [], warnings, good
