"""Results read for a report: what each run was and measured; a line for what is no result."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digest import of_meta
from exps.experiment import FREE, KEYS, Experiment, definition
from exps.kinds import as_text
from exps.messages import shown
from exps.plugins import OPTIMIZER, is_path
from exps.plugins import keys as keys_of
from utils.results import metrics
from utils.results.files import ResultsError, load_results

# What two runs of one experiment may differ in; FREE changes no number.
LOOSE = frozenset({"seed", "device", *FREE})
MAX_TEXT = 200  # characters of a name or a value
_DATED = re.compile(r"(?P<name>.+?)_(?P<year>\d{4})-\d\d-\d\d")


class NothingToReport(ResultsError):
    """The paths name no result at all."""

    status = 2


@dataclass(frozen=True, eq=False)
class Run:
    """One result. config: every key that counts in it as text, without those that may differ
    between the runs of one experiment; exp: the same typed, None for a configuration of another
    time; seed: None where the file names none.
    """

    path: Path
    name: str
    seed: int | None
    config: Mapping[str, str]
    exp: Experiment | None
    stats: Mapping[str, Any]

    @cached_property
    def accs(self) -> np.ndarray:
        """Accuracies, float [T, T], or [1, T] for training on all tasks together."""
        return metrics.accuracies(self.stats)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric that the run has by itself, by its name in `metrics.METRICS`."""
        return metrics.measure(self.stats)

    @property
    def cumul(self) -> bool:
        """Whether it was trained on all tasks together."""
        return self.accs.shape[0] == 1 < self.accs.shape[1]

    @property
    def done(self) -> int:
        """After how many trainings it was tested on everything that it was to be tested on."""
        rows = len(self.accs)
        seen = [self.accs[0]] if self.cumul else [self.accs[k, : k + 1] for k in range(rows)]
        return sum(not np.isnan(row).any() for row in seen)

    @property
    def complete(self) -> bool:
        """Whether it has come to its end."""
        return self.done == len(self.accs)

    @property
    def meta(self) -> Mapping[str, Any]:
        """How it came about; empty for results of 2019."""
        meta = self.stats.get("meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def data(self) -> str:
        """The digest of its data; '' where it does not tell."""
        return of_meta(self.meta)

    @property
    def status(self) -> str:
        """How it ended, in a word or two."""
        said = shown(str(self.meta.get("status", "complete" if self.complete else "cut short")))
        return "cut short" if said == "complete" and not self.complete else said


def read_runs(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Run], list[str]]:
    """The runs in these files, and in the `*.pkl` of these folders (not of folders in them), each
    once; and a line for everything that could not be read. Raises NothingToReport where the paths
    name no result at all.
    """
    files: dict[Path, Path] = {}
    problems: list[str] = []
    given = [Path(path) for path in paths]
    for path in given:
        try:
            found = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
            files |= {file.resolve(): file for file in found if file.resolve() not in files}
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL character
            problems.append(f"{shown(str(path), 400)}: cannot be looked at ({shown(str(error))})")
    if not files and not problems:
        places = ", ".join(shown(str(path), 400) for path in given) or "nowhere"
        raise NothingToReport(
            f"there is nothing to report in {places}",
            "no file there ends in .pkl, as results do",
            "name the folder that --results-dir names, or the files themselves",
        )
    runs = []
    for file in files.values():
        try:
            runs.append(read_run(file))
        except ResultsError as error:
            problems.append(shown(" ".join(str(error).split()), 2000))
    return runs, problems


def read_run(path: Path) -> Run:
    """The run in a result file, of today or of 2019; ResultsError for anything else."""
    config, stats = load_results(path)
    try:
        run = make_run(path, config, stats)
        assert run.metrics  # now, that a file of another form is told once and at the beginning
    except ValueError as error:
        raise ResultsError(
            f"{shown(str(path), 400)}: not a result that can be reported: {shown(str(error), 200)};"
            " leave it out or repeat the experiment"
        ) from error
    return run


def make_run(path: Path, config: Mapping[Any, Any], stats: Mapping[str, Any]) -> Run:
    """What `load_results` has read as a Run; raises ValueError for another form."""
    texts = {shown(str(key)): _text(str(key), value) for key, value in config.items()}
    name = texts.pop("name", "") or _name_of(path)
    exp, seed = _experiment(name, texts), texts.get("seed", "")
    if exp is not None and "meta" in stats:  # this program made it, as it was at some time
        # A key that it lacks is younger, and does by default what was done without it.
        own = is_path(texts.get("optimizer", ""))  # which exp is without, see `_experiment`
        left = keys_of(OPTIMIZER, exp.optimizer) if own else {}
        texts = {key: _text(key, getattr(exp, key)) for key in exp.keys if key not in left} | texts
    counting = {k: v for k, v in texts.items() if k not in LOOSE and counts(k, exp)}
    number = int(seed) if re.fullmatch(r"\d{1,20}", seed) else None
    return Run(path, name, number, _in_order(counting, exp), exp, stats)


def counts(key: str, exp: Experiment | None) -> bool:
    """Whether the key does anything in the experiment; one that is not known is taken to."""
    return exp is None or exp.counts(key) or (key not in exp.keys and definition(key) is None)


def as_if(run: Run, **changes: Any) -> dict[str, str] | None:
    """The configuration of the run with these keys changed, without those that then do nothing;
    None where the keys are of another time. Two runs for which this is the same are twins.
    """
    if run.exp is None:
        return None
    exp = replace(run.exp, **{k: v for k, v in changes.items() if k in run.exp.keys})
    return {k: v for k, v in run.config.items() if k not in changes and counts(k, exp)}


def with_key(run: Run, key: str, text: str) -> Run:
    """The run with one more key in its configuration."""
    return replace(run, config=_in_order({**run.config, key: text}, run.exp))


def data_name(run: Run) -> str:
    """What people know its data by: the file or folder, or that they are the bundled ones."""
    if "(bundled)" in str(run.meta.get("data_source")):
        return "bundled"
    place = run.config.get("data_file") or (run.exp.data_dir if run.exp else "data")
    return shown(place, MAX_TEXT)


def _in_order(texts: Mapping[str, str], exp: Experiment | None) -> dict[str, str]:
    """Keys in the order of their definition, others behind them."""
    names = list(KEYS if exp is None else exp.keys)
    place = {name: i for i, name in enumerate(names)}
    return dict(sorted(texts.items(), key=lambda item: (place.get(item[0], len(names)), item[0])))


def _text(key: str, value: Any) -> str:
    """A value of a configuration as its file writes it, whatever it is, on one line."""
    if isinstance(value, np.generic):
        value = value.item()
    text = as_text(value) if isinstance(value, str | bool | int | float | tuple) else repr(value)
    known = definition(key)
    with contextlib.suppress(ValueError):  # 1e-4 and 0.0001 are the same
        text = as_text(known.kind.parse(text)) if known else text
    return shown(text, MAX_TEXT)


def _experiment(name: str, texts: Mapping[str, str]) -> Experiment | None:
    """The typed configuration; None where a value is not one of today's, and where its benchmark or
    network is a user's: a result is not trusted to name a file that is run. Without methods and an
    optimiser that are."""
    if is_path(texts.get("benchmark", "")) or is_path(texts.get("model", "")):
        return None
    named = texts.get("methods", "").split(",")
    ours = {"methods": ",".join(name for name in named if not is_path(name.strip()))}
    texts = {k: ours.get(k, v) for k, v in texts.items() if k != "optimizer" or not is_path(v)}
    known = {key: found for key in texts if (found := definition(key))}
    try:
        values = {key: found.kind.parse(texts[key]) for key, found in known.items()}
    except ValueError:
        return None
    return Experiment(name=name, **values) if values else None


def _name_of(path: Path) -> str:
    """A name for a result without one (of 2019): that of its file, with the year."""
    found = _DATED.match(path.stem)
    return shown(f"{found['name']} ({found['year']})" if found else path.stem, MAX_TEXT)


def program(run: Run) -> str:
    """Which version of the program made the run: by the code that runs of this kind use."""
    return shown(str(run.meta.get("code") or run.meta.get("version") or "unknown"), 100)


def release(run: Run) -> tuple[str, str]:
    """The same for runs of several kinds, whose methods or networks are other code."""
    return str(run.meta.get("version")), str(run.meta.get("commit"))
