"""Whether results have the accuracy that their sections state: `expected_acc`, `expected_tol`.

A result brings what was expected of it along, so that it is judged alike on any machine. Nothing
here needs torch, so that `--check-results` answers at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digest import of_meta
from exps.experiment import REPEATS
from exps.messages import Told, all_of, columns, shown
from utils.results.files import ResultsError, load_results
from utils.system.times import instant_or_unknown

MET, ABOVE, NOT_MET = "met", "above", "not met"
NOT_COMPARED, UNREADABLE = "not compared", "unreadable"
JUDGED = (MET, ABOVE, NOT_MET)
_ROUNDING = 1e-9  # points: a mean of decimal fractions is not exact


@dataclass(frozen=True)
class Verdict:
    """outcome: one of the five words above; why: what makes it so; accuracy: in percent, the mean
    over the tasks tested after the last one, NaN where the run did not get there; expected: for
    people, '' where nothing is expected.
    """

    outcome: str
    why: str
    accuracy: float = np.nan
    expected: str = ""


class NothingToCheckError(Told):
    """No results where they were looked for."""

    status = 2


def judge(config: dict[str, Any], stats: dict[str, Any]) -> Verdict:
    """The verdict on a result. It counts when the run is complete and at its section's values."""
    meta = stats.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    expected, tolerance = config.get("expected_acc"), config.get("expected_tol")
    complete = meta.get("status", "complete") == "complete"  # results of 2019 have no status
    accuracy = 100 * final_accuracy(stats) if complete else np.nan
    if not (isinstance(expected, float | int) and isinstance(tolerance, float | int)):
        return Verdict(NOT_COMPARED, "no expectation", accuracy)
    text = f"{expected:g} ± {tolerance:g} %"
    changed = list(map(str, meta.get("changed") or ()))
    if not complete:
        return Verdict(NOT_COMPARED, f"cut short ({meta['status']})", accuracy, text)
    if changed:
        return Verdict(NOT_COMPARED, f"other values ({', '.join(changed)})", accuracy, text)
    if np.isnan(accuracy):
        return Verdict(UNREADABLE, "no accuracy after the last task", accuracy, text)
    if not -_ROUNDING <= accuracy <= 100 + _ROUNDING:
        return Verdict(UNREADABLE, "accuracies that are no shares", accuracy, text)
    return _compared(accuracy, expected, tolerance)


def _compared(accuracy: float, expected: float, tolerance: float) -> Verdict:
    """The verdict on an accuracy, in percent, of one run or the mean of several."""
    away = accuracy - expected
    beyond = abs(away) > tolerance + _ROUNDING
    outcome = MET if not beyond else ABOVE if away > 0 else NOT_MET
    why = f"{abs(away):.2f} points {'below' if away < 0 else 'above'}"
    return Verdict(outcome, why, accuracy, f"{expected:g} ± {tolerance:g} %")


def sentence(config: dict[str, Any], stats: dict[str, Any]) -> str:
    """What the end of a run says about it; '' where nothing is expected, or it was cut short."""
    verdict = judge(config, stats)
    source = config.get("expected_source")
    source = f" ({shown(source, 200)})" if source else ""
    stated = f"expected {verdict.expected}{source}"
    if verdict.outcome in JUDGED:
        return f"{stated}: {verdict.outcome}, {verdict.accuracy:.2f} % is {verdict.why}"
    if verdict.expected and stats["meta"]["status"] == "complete":
        changed = all_of(stats["meta"]["changed"])
        return f"{stated}: not compared, for this run has other values of {changed}"
    return ""


def check(where: Path) -> tuple[str, bool]:
    """A table of the results in a folder (or of one file), and whether all is as expected.

    Several seeds of a section count by their mean. All is as expected when at least one result is
    met or above, none is not met, and all can be read; those that cannot be compared do not count.
    Raises NothingToCheckError.
    """
    paths = [where] if where.is_file() else sorted(where.glob("*.pkl"))
    if not paths:
        raise NothingToCheckError(
            f"{where}: no results to check",
            "there is no file *.pkl in it" if where.is_dir() else "there is no such folder",
            "name the folder of the results: --check-results DIR",
        )
    found = {path: _result(path) for path in paths}
    seeds = _by_seed(one for one in found.values() if one.verdict.outcome in JUDGED)
    rows, count = [], Counter[str]()
    for path, one in found.items():
        its = next((its for its in seeds if one in its.values()), None)
        said = _said(one.verdict)
        if one.verdict.outcome in JUDGED and its is None:
            said = f"does not count: there is a later one of seed {one.config.get('seed')}"
        elif its is not None and len(its) > 1:
            said = one.verdict.why
        else:
            count[one.verdict.outcome] += 1
        rows.append(_row(shown(path.name, 200), one.section, one.verdict, said))
    for its in seeds:
        if len(its) > 1:
            first, mean = (
                next(iter(its.values())),
                np.mean([r.verdict.accuracy for r in its.values()]),
            )
            verdict = _compared(float(mean), *first.bounds)
            count[verdict.outcome] += 1
            versions = len({str(one.meta.get("code")) for one in its.values()})
            said = _said(verdict) + f" ({versions} versions of the program)" * (versions > 1)
            rows.append(_row(f"mean of {len(its)} seeds", first.section, verdict, said))
    good = bool(count[MET] + count[ABOVE]) and not count[NOT_MET] and not count[UNREADABLE]
    words = [MET, *[ABOVE] * (count[ABOVE] > 0), NOT_MET, NOT_COMPARED]
    words += [UNREADABLE] * (count[UNREADABLE] > 0)
    total = ", ".join(f"{count[word]} {word}" for word in words)
    return f"{_table(rows)}\n{total}", good


@dataclass(frozen=True, eq=False)
class _Result:
    """What a file has: its configuration, the verdict on it, and what its `meta` tells: when it was
    begun, of which data and by which version of the program it is."""

    config: dict[str, Any]
    verdict: Verdict
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def section(self) -> str:
        """For people."""
        return shown(str(self.config.get("name", "-")))

    @property
    def bounds(self) -> tuple[Any, Any]:
        """What is expected, and by how much it may be missed."""
        return self.config["expected_acc"], self.config["expected_tol"]

    def repeats(self, other: _Result) -> bool:
        """Whether they are of the same data, and differ in nothing but seed, device and the like;
        older results lack keys that came since."""
        one, two = self.config, other.config
        same = {*one} & {*two} - {*REPEATS} | {"name"}
        alike = self.bounds == other.bounds and of_meta(self.meta) == of_meta(other.meta)
        return alike and all(one.get(k) == two.get(k) for k in same)


def _by_seed(results: Iterable[_Result]) -> list[dict[object, _Result]]:
    """Those of one experiment together, of every seed the latest; one without a seed is alone."""
    groups: list[dict[object, _Result]] = []
    for one in sorted(results, key=lambda one: instant_or_unknown(one.meta.get("started"))):
        of = next((g for g in groups if one.repeats(next(iter(g.values())))), None)
        if of is None or "seed" not in one.config:
            groups.append({one.config.get("seed"): one})
        else:
            of[one.config["seed"]] = one
    return groups


def _result(path: Path) -> _Result:
    """What is in a result file, and the verdict on it."""
    try:
        config, stats = load_results(path)
    except ResultsError as error:
        reason = str(error).removeprefix(f"{shown(str(path), 400)}: ")
        return _Result({}, Verdict(UNREADABLE, shown(reason, 200)))
    meta = stats.get("meta")
    return _Result(config, judge(config, stats), meta if isinstance(meta, dict) else {})


def _said(verdict: Verdict) -> str:
    return verdict.why if verdict.outcome == ABOVE else f"{verdict.outcome}: {verdict.why}"


def _row(name: str, section: str, verdict: Verdict, said: str) -> tuple[str, ...]:
    accuracy = "-" if np.isnan(verdict.accuracy) else f"{verdict.accuracy:.2f} %"
    return name, section, accuracy, verdict.expected or "-", shown(said, 300)


def final_accuracy(stats: dict[str, Any]) -> float:
    """The mean over the tasks tested after the last one, of 1; NaN where there is none."""
    accs = stats.get("accs")
    if not isinstance(accs, np.ndarray) or accs.ndim != 2 or accs.dtype.kind != "f":
        return np.nan
    last = accs[-1:]
    return float(np.nanmean(last)) if np.isfinite(last).any() else np.nan


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    return columns([("result", "section", "accuracy", "expected", "verdict"), *rows])
