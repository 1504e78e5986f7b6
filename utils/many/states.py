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
from exps.definitions import KEPT
from exps.messages import shown
from utils.many.order import DIVERGED, FAILED, LEFT, SKIPPED, Outcome
from utils.many.pace import Far
from utils.results import expected
from utils.results.about import WeightsError, read_about
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
    keeps: str  # of its weights, see `KEPT`
    weights: tuple[str, ...]  # the names of their files
    mean: float  # accuracy after the last task; NaN where there is none
    seconds: float
    verdict: str  # whether it has the accuracy that its section states; '' where it states none


class Begun(NamedTuple):
    """The same of an unfinished run, as its newest checkpoint has it."""

    run: Run
    key: str
    code: str
    data: str
    far: Far
    progress: str


class State(NamedTuple):
    """How far a run is."""

    kind: Literal["done", "diverged", "in use", "unfinished", "new"]
    path: Path | None = None  # of its result
    run: Run | None = None
    far: Far = Far()  # as its newest checkpoint has it
    detail: str = ""  # for people

    def outcome(self, number: int) -> Outcome | None:
        """What becomes of a run that nothing is to be done for; None where there is."""
        kind = {"done": SKIPPED, "diverged": FAILED, "in use": LEFT}.get(self.kind)
        return Outcome(number, kind, self.path, self.detail) if kind else None


class Folder:
    """The results and unfinished runs of a folder, as they were when it was looked at.

    unreadable: what lies there as a result or an unfinished run, and cannot be read.
    """

    def __init__(self, results_dir: Path) -> None:
        self.done: dict[str, list[Known]] = defaultdict(list)
        self.begun: dict[str, list[Begun]] = defaultdict(list)
        self.unreadable: list[Path] = []
        for path in sorted(results_dir.glob("*.pkl")):
            known = read_known(path)
            if known is None:
                self.unreadable.append(path)
            else:
                self.done[known.key].append(known)
        for begun in _begun(results_dir, self.unreadable):
            self.begun[begun.key].append(begun)

    def state(self, wanted: Wanted, *, again: bool = False, without: Collection[str] = ()) -> State:
        """How far a run is.

        again: results do not count, as the run is to be repeated; without: names of unfinished runs
        that do not count either.
        """
        done = [] if again else reversed(self.done.get(wanted.key, []))  # the first counts
        paths = {known.status: known.path for known in done if not _fault(wanted, known)}
        if "complete" in paths:
            return State("done", paths["complete"])
        if "diverged" in paths:
            return State("diverged", paths["diverged"], detail=DIVERGED)
        begun = [it for it in self.begun.get(wanted.key, []) if not _fault(wanted, it)]
        begun = [it for it in begun if it.run.name not in without]
        for it in begun:
            if owner := holder(it.run.folder / "lock"):
                return State("in use", run=it.run, detail=f"running on {owner}")
        for it in begun:
            return State("unfinished", run=it.run, far=it.far, detail=it.progress)
        return State("new")

    def others(self, wanted: Wanted) -> list[list[str]]:
        """Results, and unfinished runs, of this configuration that do not count, each with why."""
        parts = (
            [(known.path.name, known) for known in self.done.get(wanted.key, [])],
            [(f"{runs.FOLDER}/{it.run.name}", it) for it in self.begun.get(wanted.key, [])],
        )
        return [[f"{n} ({why})" for n, it in part if (why := _fault(wanted, it))] for part in parts]


def _fault(wanted: Wanted, it: Known | Begun) -> str:
    """Why this is no part of the run, but of other code or data or without its weights; '' if it
    is. One that is unfinished keeps what is asked for from here on."""
    if it.code != wanted.code and not wanted.trust:
        return "another version of the program"
    # Where the data are not known, an unfinished run will see them itself.
    data = wanted.data or (it.data if isinstance(it, Begun) else "")
    if not data or it.data != data:
        return "other data" if data and it.data else "data that are not known"
    if isinstance(it, Known):
        if KEPT.index(it.keeps) < KEPT.index(wanted.weights):
            return f"without the weights that keep_weights = {wanted.weights} asks for"
        files = {"none": (), "final": it.weights[-1:]}.get(wanted.weights, it.weights)
        for name in files:
            try:
                read_about(it.path.parent / name)
            except WeightsError as error:
                return f"its weights cannot be used: {error}"
    return ""


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
    return {(it.key, it.data): it.far for it in _begun(results_dir, [])}


@lru_cache(maxsize=100_000)
def _read(path: Path, _changed: int, _size: int) -> Known | None:
    try:
        config, stats = load_results(path)
    except ResultsError:
        return None
    meta = _dict(stats.get("meta"))
    texts = {str(name): _text(value) for name, value in config.items()}
    code, torch, status = (str(meta.get(name, "")) for name in ("code", "torch", "status"))
    mean, seconds = expected.final_accuracy(stats), stats.get("elapsed")
    seconds = float(seconds) if isinstance(seconds, float | int) else float("nan")
    found = expected.judge(config, stats)
    judged = found.outcome in expected.JUDGED
    verdict = f"expected {found.expected}: {found.outcome}" if judged else ""
    keeps = texts.get("keep_weights", KEPT[0])
    told = code, of_meta(meta), torch, status, keeps if keeps in KEPT else KEPT[0]
    names = [meta.get(name) for name in ("weights", "lost_weights")]
    files = [str(file) for some in names if isinstance(some, list) for file in some]
    files.sort(key=lambda name: (len(name), name))  # by task
    return Known(path, fingerprint(texts), *told, tuple(files), mean, seconds, verdict)


def _text(value: Any) -> str:
    """A value as `configuration` writes it; results of others may hold anything."""
    return as_text(value) if isinstance(value, bool | int | float | str | tuple) else repr(value)


def _begun(results_dir: Path, damaged: list[Path]) -> Iterator[Begun]:
    """Unfinished runs; what cannot be read of them is noted in `damaged`."""
    for run in runs.unfinished(results_dir):
        try:
            facts = run.facts()[1]
        except CheckpointError:  # or finished meanwhile
            damaged += [run.folder] if run.begun() else []
            continue
        identity = _dict(facts.get("identity"))
        texts, program, data = (_dict(identity.get(k)) for k in ("config", "program", "data"))
        yield Begun(
            run,
            fingerprint({str(name): str(text) for name, text in texts.items()}),
            str(program.get("code", "")),
            str(data.get("data", "")),
            _far(facts),
            shown(str(facts.get("progress", ""))),
        )


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _far(facts: dict[str, Any]) -> Far:
    found = [facts.get(name) for name in ("share", "seconds")]
    share, seconds = (f if isinstance(f, float) and isfinite(f) else 0.0 for f in found)
    return Far(min(max(share, 0.0), 1.0), max(seconds, 0.0))
