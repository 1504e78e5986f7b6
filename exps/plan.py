"""Which runs a command asks for: sections × values of a grid × seeds, all checked. No torch."""

from __future__ import annotations

import itertools
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exps import cli, config
from exps.config import Experiment, as_text
from exps.experiment import FREE, KEYS, PLACES
from exps.messages import ConfigError, quoted, shown
from exps.reader import Entry, parse_override

MOST = 10_000  # runs of one command
SHOWN = 10  # faults

Point = tuple[Entry, ...]  # a value for each key of the grid


@dataclass(frozen=True)
class Planned:
    """One run: its experiment, the `key=value` that make it of its section, and a short name.

    group: the name without the seed.
    """

    exp: Experiment
    overrides: tuple[str, ...]
    group: str

    @property
    def label(self) -> str:
        return f"{self.group} seed {self.exp.seed}"


def plan(args: Namespace) -> tuple[list[Planned], list[str]]:
    """All runs that the command line asks for, each once, and notes on what is worth knowing.

    A key of the grid that does nothing in a section (`percent_on_fc` in a dense one) is left out
    there. Raises ConfigError when any combination is wrong.
    """
    if args.resume is not None:
        raise ConfigError("--resume is for a single run; many runs are gone on with by themselves")
    if args.go_on is not None and args.name is None:
        raise ConfigError("--continue goes on with one run; for many, say which with --name too")
    if args.address is not None and args.executor != "ray":
        raise ConfigError("--address is that of a Ray cluster; add --executor ray")
    if args.csv is not None:
        if Path(args.csv).is_file():
            raise ConfigError(f"--csv {quoted(args.csv)}: it is a file; many runs need a folder")
        args.csv = f"{args.csv.rstrip('/')}/"  # with a file for each run
    names = args.name or ["DEFAULT"]
    axes = [parse_axis(text) for text in args.grid]
    seeds = parse_seeds(args.seeds) if args.seeds is not None else None
    _require_one_option_each(args, axes)
    count = len(names) * len(seeds or [0])
    for _, entries in axes:
        count *= len(entries)
    if count > MOST:
        raise ConfigError(f"{count} runs are asked for; the most is {MOST}")

    points = list(itertools.product(*(entries for _, entries in axes)))
    bases, notes = _bases(args, names, points)
    found: dict[Experiment, Planned] = {}
    for base in bases:
        for planned in _with_seeds(base, seeds):
            found.setdefault(planned.exp, planned)
    if len(found) < count:
        notes.append(f"of {count} combinations {len(found)} differ: each of these is run once")
    return list(found.values()), notes


def parse_seeds(text: str) -> list[int]:
    """`0-4,7` is 0, 1, 2, 3, 4 and 7; each seed once. Raises ConfigError."""
    spans = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        if not match:
            raise ConfigError(
                f"--seeds {quoted(text)}: {quoted(part)} is neither a seed nor a range; write for"
                " example 0-4,7"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"--seeds {quoted(text)}: the range {first}-{last} is empty")
        try:
            KEYS["seed"].kind.parse(str(last))
        except ValueError as error:
            raise ConfigError(f"--seeds {quoted(text)}: {last}: {error}") from None
        spans.append(range(first, last + 1))
    if sum(map(len, spans)) > MOST:
        raise ConfigError(f"--seeds {quoted(text)}: more than {MOST} seeds")
    return list(dict.fromkeys(itertools.chain(*spans)))


def parse_axis(text: str) -> tuple[str, list[Entry]]:
    """The key and the entries of `key=a,b,c`, or `key=a;b` for values with commas in them.

    Raises ConfigError.
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if name in FREE and name not in PLACES:  # there may be other data of the same name
        raise ConfigError(f"--grid {quoted(text)}: {name} changes no result; use --set")
    texts = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not name or not equals or not all(texts):
        raise ConfigError(f"--grid {quoted(text)}: write key=value,value, for example lr=0.05,0.1")
    return name, [Entry(name, value, f"--grid {shown(name)}={shown(value)}") for value in texts]


def _require_one_option_each(args: Namespace, axes: Sequence[tuple[str, list[Entry]]]) -> None:
    """Raise ConfigError where a key that has several values is given any in another place too."""
    said = {parse_override(text).key: "--set" for text in args.set}
    said |= {key: f"--{key}" for key in ("seed", "device") if getattr(args, key) is not None}
    several = [(key, "--grid") for key, _ in axes]
    several += [("seed", "--seeds")] if args.seeds is not None else []
    for key, option in several:
        if key in said:
            raise ConfigError(f"{shown(key)} is given by {said[key]} and by {option}; keep one")
        said[key] = option


def _bases(
    args: Namespace, names: Sequence[str], points: Sequence[Point]
) -> tuple[list[Planned], list[str]]:
    """Every section at every point of the grid, with the seed of the section, and notes.

    Raises ConfigError with all faults.
    """
    bases: list[Planned] = []
    faults: list[str] = []
    found: list[config.Resolved] = []
    all_of = list(dict.fromkeys(entry for point in points for entry in point))
    for name, point in itertools.product(dict.fromkeys(names), points):
        try:
            resolved = config.resolve(name, args.config, [*cli.overrides(args), *point], all_of)
            used = tuple(e for e in point if resolved.experiment.counts(e.key))
            if used != point:
                resolved = config.resolve(name, args.config, [*cli.overrides(args), *used], all_of)
        except ConfigError as error:
            faults.append(str(error))
            continue
        found.append(resolved)
        exp = resolved.experiment
        words = (*cli.overrides(args), *(f"{e.key}={e.text}" for e in used))
        values = [f"{e.key}={as_text(getattr(exp, e.key))}" for e in used]
        bases.append(Planned(exp, words, " ".join([name, *values])))
    if faults:
        raise ConfigError(_together(list(dict.fromkeys(faults))))
    return bases, [*_idle(points, found), *config.warnings(found)]


def _with_seeds(base: Planned, seeds: list[int] | None) -> Iterator[Planned]:
    """The run with each of the seeds, or with that of its section."""
    for seed in [base.exp.seed] if seeds is None else seeds:
        yield Planned(
            replace(base.exp, seed=seed),
            (*base.overrides, f"seed={seed}"),
            base.group,
        )


def _idle(points: Sequence[Point], found: Sequence[config.Resolved]) -> Iterator[str]:
    """A note on every key of the grid that counts nowhere in a section."""
    for name in dict.fromkeys(one.experiment.name for one in found):
        here = [one.experiment for one in found if one.experiment.name == name]
        for key in dict.fromkeys(entry.key for point in points for entry in point):
            if not any(exp.counts(key) for exp in here):
                yield (
                    f"--grid {key}: does nothing in [{shown(name)}], which is not repeated for its"
                    f" values; it counts only with {here[0].why_idle(key)}"
                )


def _together(faults: list[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return "\n  ".join([f"{len(faults)} faults; nothing was begun", *faults[:SHOWN], *more])
