"""Many results as tables for a notebook."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from exps.experiment import definition
from utils.results.files import ResultsError
from utils.results.groups import MISSING, Group, differences, grouped
from utils.results.metrics import METRICS
from utils.results.runs import program, read_runs


def load_table(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], rows: str = "runs"
) -> pd.DataFrame:
    """Many results as one table: those in these files, and in the `*.pkl` of these folders.

    rows: `runs`, a row per run with its group, the keys that differ, its seed and every metric of
    `metrics` (those in % and points as fractions), or `accuracies`, a row per run, task trained and
    task tested. Warns of each file that cannot be read and leaves it out. Raises
    ResultsError where there is none that can, ValueError for other `rows`.
    """
    frames = {"runs": run_frame, "accuracies": accuracy_frame}
    if rows not in frames:
        raise ValueError(f"rows = {rows!r}: choose runs or accuracies")
    found, problems = read_runs([paths] if isinstance(paths, str | os.PathLike) else paths)
    if not found:
        raise ResultsError("\n".join(problems))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return frames[rows](grouped(found))


def run_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per run: its group, the keys that differ, its seed, every metric, how it ended, and
    its file. Metrics in % and points are fractions.
    """
    rows = []
    for i, group in enumerate(groups):
        keys = {key: _typed(key, values[i]) for key, values in differences(groups).items()}
        for run in (*group.runs, *group.repeats):
            first = {"group": group.label, "name": run.name, "seed": run.seed}
            values = {name: group.value(run, name) for name in METRICS}
            end = {"status": run.status, "tasks_done": run.done, "counts": run in group.runs}
            told = run.stats.get("elapsed")  # seconds
            elapsed = float(told) if isinstance(told, int | float) else np.nan
            end |= {"elapsed": elapsed, "program": program(run), "path": str(run.path)}
            taken = first | values | end
            own = {key: text for key, text in keys.items() if key not in taken}
            rows.append(first | own | values | end)
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def accuracy_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per run, task trained and task tested that was tested: `accuracy` is a fraction,
    tasks count from 1; for training on all tasks together `trained` is the last.
    """
    rows = []
    for group in groups:
        for run in (*group.runs, *group.repeats):
            for i, j in np.argwhere(~np.isnan(run.accs)):
                trained = run.accs.shape[1] if run.cumul else i + 1
                rows.append((group.label, run.seed, trained, j + 1, run.accs[i, j], str(run.path)))
    columns = ["group", "seed", "trained", "tested", "accuracy", "path"]
    return pd.DataFrame(rows, columns=columns).astype({"seed": "Int64"})


def _typed(key: str, text: str) -> object:
    """The value of a key as a number or a truth value, where it is one; None for none."""
    if text == MISSING:
        return None
    known = definition(key)
    try:
        value = known.kind.parse(text) if known else float(text)
    except ValueError:
        return text
    return text if isinstance(value, tuple) else value
