"""How far each of many runs is, as the results folder says: done, begun, or neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.digest import of_meta
from exps.config import as_text
from exps.messages import shown
from utils.many.pace import Far
from utils.results import expected
from utils.results.files import ResultsError, load_results
from utils.runs import folder as runs
from utils.runs.checkpoint_file import CheckpointError
from utils.runs.folder import Run
from utils.runs.identity import Wanted, fingerprint
from utils.system.lock import holder


class Known(NamedTuple):
    """What matters here of a result file."""

    path: Path
    key: str  # the fingerprint of its configuration
    code: str  # the program's digest; '' in results that do not tell it
    data: str  # that of its pictures, likewise
    torch: str
    status: str
    mean: float  # accuracy after the last task; NaN where there is none
    seconds: float
    verdict: str  # whether it has the accuracy that its section states; '' where it states none


class State(NamedTuple):
    """How far a run is. `diverged` counts as failed: the same numbers would come again."""

    kind: Literal["done", "diverged", "in use", "unfinished", "new"]
    path: Path | None = None  # of its result
    run: Run | None = None
    far: Far = Far()  # as its newest checkpoint has it
    detail: str = ""


class Folder:
    """The results and unfinished runs of a folder, as they were when it was looked at.

    unreadable: what lies there as a result or an unfinished run, and cannot be read.
    """

    def __init__(self, results_dir: Path) -> None:
        self.done: dict[str, list[Known]] = defaultdict(list)
        self.begun: dict[str, list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
        self.unreadable: list[Path] = []
        for path in sorted(results_dir.glob("*.pkl")):
            known = read_known(path)
            if known is None:
                self.unreadable.append(path)
            else:
                self.done[known.key].append(known)
        for run, facts in _begun(results_dir, self.unreadable):
            self.begun[_key_of(facts)].append((run, facts))

    def state(self, wanted: Wanted, *, again: bool = False, without: Collection[str] = ()) -> State:
        """How far a run is.

        again: results do not count, as the run is to be repeated; without: names of unfinished runs
        that do not count either.
        """
        if not again:
            for status, kind in (("complete", "done"), ("diverged", "diverged")):
                for known in self.done.get(wanted.key, []):
                    if known.status == status and not _fault(wanted, known.code, known.data):
                        return State(kind, known.path)  # type: ignore[arg-type]
        found = [
            (run, facts)
            for run, facts in self.begun.get(wanted.key, [])
            if run.name not in without and not _fault_of(wanted, facts)
        ]
        for run, _ in found:
            owner = holder(run.folder / "lock")
            if owner:
                return State("in use", run=run, detail=f"running on {owner}")
        for run, facts in found:
            detail = shown(str(facts.get("progress", "")))
            return State("unfinished", run=run, far=_far(facts), detail=detail)
        return State("new")

    def others(self, wanted: Wanted) -> tuple[list[str], list[str]]:
        """Results, and unfinished runs, of this configuration that do not count, each with why."""
        results, begun = self.done.get(wanted.key, []), self.begun.get(wanted.key, [])
        faults = [(known.path.name, _fault(wanted, known.code, known.data)) for known in results]
        of_begun = [(f"{runs.FOLDER}/{run.name}", _fault_of(wanted, facts)) for run, facts in begun]
        told = ([f"{name} ({why})" for name, why in part if why] for part in (faults, of_begun))
        return next(told), next(told)


def _fault(wanted: Wanted, code: str, data: str) -> str:
    """Why what was made with this code from these data is no part of the run; '' if it is."""
    if code != wanted.code and not wanted.trust:
        return "another version of the program"
    if not wanted.data or data != wanted.data:
        return "other data" if wanted.data and data else "data that are not known"
    return ""


def _fault_of(wanted: Wanted, facts: dict[str, Any]) -> str:
    """The same for an unfinished run; where the data are not known, it will see them itself."""
    data = str(_part(facts, "data").get("data", ""))
    wanted = wanted._replace(data=wanted.data or data)
    return _fault(wanted, str(_part(facts, "program").get("code", "")), data)


def read_known(path: Path) -> Known | None:
    """What a result file says; None for one that cannot be read. Read again only if it changed."""
    try:
        stat = path.stat()
    except OSError:  # it has just been replaced or removed
        return None
    return _read(path, stat.st_mtime_ns, stat.st_size)


def progress(results_dir: Path) -> dict[tuple[str, str], Far]:
    """How far the newest checkpoint of each unfinished run is, by the fingerprint of its
    configuration and the digest of its data; takes no lock."""
    return {
        (_key_of(facts), str(_part(facts, "data").get("data", ""))): _far(facts)
        for _, facts in _begun(results_dir)
    }


@lru_cache(maxsize=100_000)
def _read(path: Path, _changed: int, _size: int) -> Known | None:
    try:
        config, stats = load_results(path)
    except ResultsError:
        return None
    meta = stats.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    texts = {str(name): _text(value) for name, value in config.items()}
    code, torch, status = (str(meta.get(name, "")) for name in ("code", "torch", "status"))
    mean, seconds = expected.final_accuracy(stats), stats.get("elapsed")
    seconds = float(seconds) if isinstance(seconds, float | int) else float("nan")
    told = code, of_meta(meta), torch, status, mean, seconds, _verdict(config, stats)
    return Known(path, fingerprint(texts), *told)


def _text(value: Any) -> str:
    """A value as `configuration` writes it; results of others may hold anything."""
    return as_text(value) if isinstance(value, bool | int | float | str | tuple) else repr(value)


def _verdict(config: dict[str, Any], stats: dict[str, Any]) -> str:
    found = expected.judge(config, stats)
    told = found.outcome in (expected.MET, expected.NOT_MET)
    return f"expected {found.expected}: {found.outcome}" if told else ""


def _begun(
    results_dir: Path, damaged: list[Path] | None = None
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Unfinished runs with their facts; what has none is noted in `damaged`."""
    for run in runs.unfinished(results_dir):
        try:
            yield run, run.facts()[1]
        except CheckpointError:  # or finished meanwhile
            if damaged is not None and run.begun():
                damaged.append(run.folder)


def _key_of(facts: dict[str, Any]) -> str:
    texts = _part(facts, "config")
    return fingerprint({str(name): str(text) for name, text in texts.items()})


def _part(facts: dict[str, Any], name: str) -> dict[Any, Any]:
    identity = facts.get("identity")
    part = identity.get(name) if isinstance(identity, dict) else None
    return part if isinstance(part, dict) else {}


def _far(facts: dict[str, Any]) -> Far:
    found = [facts.get(name) for name in ("share", "seconds")]
    share, seconds = (f if isinstance(f, float) and isfinite(f) else 0.0 for f in found)
    return Far(min(max(share, 0.0), 1.0), max(seconds, 0.0))
