"""Which run a command goes on with, and as which experiment. Answers before torch is loaded."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks import digest
from exps import cli, config, plugins
from exps.config import Experiment
from exps.experiment import ABOUT
from exps.messages import shown, shown_path
from exps.paths import path, typed, word
from exps.reader import parse_override
from utils.results.about import beside, read_about
from utils.runs import folder as runs
from utils.runs.checkpoint_file import CheckpointError
from utils.runs.folder import Run, RunError, UnfitError
from utils.runs.identity import configuration, differences


def chosen(args: Namespace) -> tuple[Experiment, list[str], Run | None]:
    """The experiment that the command line asks for, warnings about it, and the run to go on with.

    With `--resume RUN` alone it is the run's own experiment; with --name or --config too, it is
    that of the section, which has the run's name where none is given. Raises ConfigError and
    RunError, the latter with all differences.
    """
    if args.go_on is not None and args.resume is not None:
        raise config.ConfigError("--continue begins a run, and --resume goes on with one; keep one")
    if args.resume:
        run = runs.find(args.results_dir, args.resume)
        with runs.reading(run):
            there = run.facts()[1].get("identity", {})
        if args.name is None and args.config == config.DEFAULT_FILE:
            exp, warnings = _own(run, there, cli.overrides(args)), list[str]()
        else:
            exp, warnings = _asked_for(args, _section(_texts(there)))
        require_same(run, there, {"config": configuration(exp)})
        return exp, warnings, run
    exp, warnings = _asked_for(args)
    return exp, warnings, None if args.resume is None else _newest(args, exp)


def require_same(
    run: Run, there: Any, here: dict[str, dict[str, str]], *, trust: bool = False
) -> None:
    """Raise UnfitError with the differences between a checkpoint's identity and this one.

    trust: whatever the code is.
    """
    found = differences(there, here, trust=trust)
    if found:
        code = "" if differences(there, here, trust=True) else "; --trust-code goes on all the same"
        raise UnfitError(
            f"run {run.name} is of another configuration, version or data",
            "; ".join(found),
            f"go back to what it was begun with, or leave out --resume to begin anew{code}",
        )


def wanted_device(exp: Experiment, run: Run | None) -> str:
    """The device for an experiment: with auto, a run that was begun on a CPU stays on one, so that
    its numbers stay the same where there is a GPU too.
    """
    if run is not None and exp.device == "auto":
        with runs.reading(run):
            place = run.facts()[1].get("place")
        if isinstance(place, dict) and place.get("device") == "cpu":
            return "cpu"
    return exp.device


def _asked_for(args: Namespace, section: str = "DEFAULT") -> tuple[Experiment, list[str]]:
    """section: which it is where none is named."""
    if args.go_on is not None and args.name is None:
        if args.config == config.DEFAULT_FILE:
            return _of_weights(path(args.go_on), cli.overrides(args)), []
        section = _section(read_about(beside(path(args.go_on))).config)
    return config.load((args.name or [section])[0], args.config, cli.overrides(args))


def _section(texts: dict[str, str]) -> str:
    """The section that a configuration was made of."""
    return texts.get("name", "DEFAULT")


def _texts(there: Any) -> dict[str, str]:
    """The configuration that a checkpoint's identity has; {} where it has none."""
    texts = there.get("config") if isinstance(there, dict) else None
    if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
        return texts
    return {}


def _own(run: Run, there: Any, overrides: list[str]) -> Experiment:
    """The experiment that a checkpoint names, with the command line's changes."""
    texts = _texts(there)
    if not texts:
        raise UnfitError(
            f"run {run.name} cannot be gone on with",
            "its checkpoint has no configuration",
            "begin anew, and remove its folder",
        )
    keys = {key: text for key, text in texts.items() if key != "name"}
    given = {parse_override(text).key for text in overrides}
    if key := plugins.unasked(keys, given):
        raise RunError(
            f"run {run.name} is made of a file of its user's: {key} = {shown(keys[key], 400)}",
            "a results folder may be somebody else's, so a file that it names is not run unasked",
            f"ask for it: {typed(['--resume', run.name, word('--set', f'{key}={keys[key]}')])}",
        )
    return config.from_texts(_section(texts), keys, overrides)


def _of_weights(result: Path, overrides: list[str]) -> Experiment:
    """The experiment of kept weights, with the command line's changes."""
    found = beside(result)
    texts = {k: t for k, t in read_about(found).config.items() if k not in (*ABOUT, "begin_with")}
    keys = {key: text for key, text in texts.items() if key != "name"}
    if key := plugins.unasked(keys, {parse_override(text).key for text in overrides}):
        raise RunError(
            f"{shown_path(found)} is of a file of its user's: {key} = {shown(keys[key], 400)}",
            "weights may be somebody else's, so a file that they name is not run unasked",
            f"ask for it with {word('--set', f'{key}={keys[key]}')}",
        )
    try:
        return config.from_texts(_section(texts), keys, overrides)
    except config.ConfigError as error:
        raise config.ConfigError(f"{shown_path(found)}: {error}") from error


def _newest(args: Namespace, exp: Experiment) -> Run:
    """The newest unfinished run of this experiment; RunError says what else there is."""
    others, here = [], {"config": configuration(exp)}
    if data := digest.of_experiment(exp):
        here["data"] = {"data": data}
    for run in runs.unfinished(args.results_dir):
        try:
            there = run.facts()[1].get("identity", {})
        except CheckpointError as error:
            others.append(f"{run.name}: {error}")
            continue
        found = differences(there, here)
        if not found:
            return run
        if not any(line.startswith("name: ") for line in found):
            others.append(f"{run.name} differs in {', '.join(found)}")
    why = "; ".join(others[:5]) or f"there is none in {args.results_dir / runs.FOLDER}"
    raise RunError(
        f"there is no unfinished run of {exp.name} with this configuration",
        why,
        "name one that --list-runs shows with --resume RUN, or leave out --resume to begin anew",
    )
