"""How far each of many runs is, as the results folder says: done, begun, or neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

from exps.config import as_text
from exps.messages import shown
from utils import expected, runs
from utils.checkpoint_file import CheckpointError
from utils.identity import fingerprint
from utils.lock import holder
from utils.many.pace import Far
from utils.results import ResultsError, load_results
from utils.runs import Run


class Known(NamedTuple):
    """What matters here of a result file."""

    path: Path
    key: str  # the fingerprint of its configuration
    code: str  # the program's digest; '' in results that do not tell it
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
    """The results and unfinished runs of a folder, as they were when it was looked at."""

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
        for run, facts in _begun(results_dir):
            self.begun[_key_of(facts)].append((run, facts))

    def state(self, key: str, code: str, *, again: bool = False) -> State:
        """How far the run of this fingerprint and program is.

        again: results do not count, as the run is to be repeated.
        """
        if not again:
            for status, kind in (("complete", "done"), ("diverged", "diverged")):
                for known in self.done.get(key, []):
                    if (known.code, known.status) == (code, status):
                        return State(kind, known.path)  # type: ignore[arg-type]
        found = [(run, facts) for run, facts in self.begun.get(key, []) if _code(facts) == code]
        for run, _ in found:
            owner = holder(run.folder / "lock")
            if owner:
                return State("in use", run=run, detail=f"running on {owner}")
        for run, facts in found:
            detail = shown(str(facts.get("progress", "")))
            return State("unfinished", run=run, far=_far(facts), detail=detail)
        return State("new")

    def of_other_programs(self, key: str, code: str) -> int:
        """How many results and unfinished runs of this configuration another program made."""
        results = sum(known.code != code for known in self.done.get(key, []))
        return results + sum(_code(facts) != code for _, facts in self.begun.get(key, []))


def read_known(path: Path) -> Known | None:
    """What a result file says; None for one that cannot be read. Read again only if it changed."""
    try:
        stat = path.stat()
    except OSError:  # it has just been replaced or removed
        return None
    return _read(path, stat.st_mtime_ns, stat.st_size)


def progress(results_dir: Path) -> dict[str, Far]:
    """How far the newest checkpoint of each unfinished run is, by fingerprint; takes no lock."""
    return {_key_of(facts): _far(facts) for _, facts in _begun(results_dir)}


@lru_cache(maxsize=100_000)
def _read(path: Path, _changed: int, _size: int) -> Known | None:
    try:
        config, stats = load_results(path)
    except ResultsError:
        return None
    meta = stats.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    texts = {str(name): _text(value) for name, value in config.items()}
    code, status = (str(meta.get(name, "")) for name in ("code", "status"))
    mean, seconds = expected.final_accuracy(stats), stats.get("elapsed")
    seconds = float(seconds) if isinstance(seconds, float | int) else float("nan")
    return Known(path, fingerprint(texts), code, status, mean, seconds, _verdict(config, stats))


def _text(value: Any) -> str:
    """A value as `configuration` writes it; results of others may hold anything."""
    return as_text(value) if isinstance(value, bool | int | float | str | tuple) else repr(value)


def _verdict(config: dict[str, Any], stats: dict[str, Any]) -> str:
    found = expected.judge(config, stats)
    told = found.outcome in (expected.MET, expected.NOT_MET)
    return f"expected {found.expected}: {found.outcome}" if told else ""


def _begun(results_dir: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    for run in runs.unfinished(results_dir):
        try:
            yield run, run.facts()[1]
        except CheckpointError:  # damaged, or finished meanwhile
            continue


def _key_of(facts: dict[str, Any]) -> str:
    texts = _part(facts, "config")
    return fingerprint({str(name): str(text) for name, text in texts.items()})


def _code(facts: dict[str, Any]) -> str:
    return str(_part(facts, "program").get("code", ""))


def _part(facts: dict[str, Any], name: str) -> dict[Any, Any]:
    identity = facts.get("identity")
    part = identity.get(name) if isinstance(identity, dict) else None
    return part if isinstance(part, dict) else {}


def _far(facts: dict[str, Any]) -> Far:
    found = [facts.get(name) for name in ("share", "seconds")]
    share, seconds = (f if isinstance(f, float) and isfinite(f) else 0.0 for f in found)
    return Far(min(max(share, 0.0), 1.0), max(seconds, 0.0))
