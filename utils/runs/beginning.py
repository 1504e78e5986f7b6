"""A run that begins with kept weights: with further tasks of their stream, or with another one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps import plugins
from exps.config import Experiment, as_text
from exps.experiment import PART
from exps.messages import all_of, shown_path
from exps.paths import path
from utils.engines.routed import PARTS
from utils.methods.base import Method
from utils.results import weights
from utils.results.about import WeightsError, beside
from utils.results.weights import Kept
from utils.training.kept import become, views
from utils.training.record import Place
from utils.training.trainer import Trainer

NONE = "none"
ADVICE = "begin without begin_with, or with other weights"


@dataclass(frozen=True)
class Beginning:
    """What a run begins with; first: the task (from 0) that it trains first, digest: SHA-256 of the
    file."""

    kept: Kept
    first: int
    digest: str

    @property
    def told(self) -> dict[str, object]:
        """For the result."""
        run, name = self.kept.about.made.get("run", ""), str(self.kept.path)
        return {"run": run, "file": name, "sha256": self.digest, "first_task": self.first + 1}

    def fill(self, trainer: Trainer) -> None:
        """Let a fresh run begin there, with what was measured of the tasks trained before."""
        if not self.first:
            return
        trainer.place, record = Place(self.first, first=self.first), trainer.record
        for mine, row in zip(record.accs[: self.first], self.kept.about.accs, strict=True):
            _fill(mine, row)
        _fill(record.untrained, self.kept.about.untrained)


def begin(trainer: Trainer) -> Beginning | None:
    """Make a fresh engine what `begin_with` names; None where it names nothing.

    Where the tasks that were trained there are the first ones of the stream, the run goes on behind
    them, and methods with what they remember; otherwise all tasks are new, and so is what methods
    remember. Raises WeightsError for what does not go together.
    """
    exp, stream, engine, methods = trainer.exp, trainer.stream, trainer.engine, trainer.methods
    if exp.begin_with == NONE:
        return None
    path = beside(Path(exp.begin_with))
    kept = weights.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if list(stream.input_shape) != kept.about.input_shape:
        found, mine = (
            " × ".join(map(str, n)) for n in (kept.about.input_shape, stream.input_shape)
        )
        raise _refused(kept, f"it takes pictures of {found}; those here are of {mine}")
    _require_untrained_tests(exp, stream, kept)
    other = _other(exp, stream, kept)
    if not other:
        _require_methods(exp, methods, kept)
        network = grown(kept, engine.weights(), alike=True)
        become(engine, methods, kept, network)
        return Beginning(kept, kept.about.trained, digest)
    if exp.name == kept.about.config.get("name"):
        raise _refused(kept, other, "keep to its tasks, or choose another section with --name")
    _require_no_parts(exp, kept)
    with kept.fitted():
        engine.begin_with(grown(kept, engine.weights(), alike=False), 0)
    return Beginning(kept, 0, digest)


def grown(kept: Kept, fresh: dict[str, Tensor], *, alike: bool) -> dict[str, Tensor]:
    """The fresh network with all that was kept in its place; heads may have more outputs, and there
    may be more of them. alike: what methods attached goes on; otherwise it begins anew."""
    found = dict(fresh)
    for name, its in kept.network.items():
        if _attached(name, kept.network) and not alike:
            continue
        mine = fresh.get(name)
        if mine is None:
            if alike and name.startswith("heads."):  # of a task that was not trained
                continue
            raise _refused(kept, f"it has {name}, which the network here has not")
        may_grow = name.startswith(("heads.", PARTS))
        sizes = list(zip(its.shape, mine.shape, strict=False))
        fits = its.dim() == mine.dim() and all(a <= b if may_grow else a == b for a, b in sizes)
        if not fits or its.dtype != mine.dtype:
            shapes = f"{tuple(its.shape)} there, {tuple(mine.shape)} here"
            raise _refused(kept, f"{name} is {shapes}")
        found[name] = mine.clone()
        found[name][tuple(slice(n) for n in its.shape)] = its
    for name in fresh.keys() - kept.network.keys():
        if not (name.startswith(("heads.", PARTS)) or _attached(name, fresh)):
            raise _refused(kept, f"the network here has {name}, which it has not")
    return found


def _attached(name: str, network: dict[str, Tensor]) -> bool:
    """Whether this is what a method has attached to a parameter, see `models.synapses.attach`."""
    where, _, last = name.rpartition(".")
    match = re.fullmatch(r".+_(weight|bias)", last)
    return bool(match) and f"{where}.{match[1] if match else ''}" in network


def _require_untrained_tests(exp: Experiment, stream: TaskStream, kept: Kept) -> None:
    """Refuse to test on pictures that the network was trained on there, where data are the same."""
    there, keys = kept.about.config, list[str]()
    if exp.validation and stream.data == kept.about.made.get("data"):
        keys = ["validation", "seed"]
    elif exp.counts("test_share") and _one_file(there.get("data_file", ""), exp.data_file):
        keys = ["test_share"]
    for key in keys:
        here = as_text(getattr(exp, key))
        if there.get(key) != here:
            why = f"{key} = {there.get(key)} there, {here} here; what is tested on was trained on"
            raise _refused(kept, why, f"keep {key} = {there.get(key)}")


def _one_file(there: str, here: str) -> bool:
    """Whether two names are of one file or folder, as far as both are there."""
    with suppress(OSError, ValueError):
        return path(there).samefile(path(here))
    return False


def _other(exp: Experiment, stream: TaskStream, kept: Kept) -> str:
    """What tells the tasks trained there from the first ones of the stream; '' for nothing."""
    about, trained = kept.about, kept.about.trained
    if exp.cumul or about.config.get("cumul") == "true":
        return "with cumul there is no task behind the others"
    if stream.data != about.made.get("data"):
        return "the pictures are others"
    if stream.scenario != about.config.get("scenario"):
        return f"its scenario is {about.config.get('scenario')}, that here is {stream.scenario}"
    if len(stream.tasks) < trained:
        return f"it was trained on {trained} tasks, of which there are {len(stream.tasks)} here"
    ours = views(stream)
    found = {name: kept.tensors.get(weights.STREAM + name) for name in weights.VIEWS}
    there = {name: its for name, its in found.items() if its is not None}
    if ours.keys() != there.keys():
        return "pixels are in another order"
    targets = weights.checked(kept, "targets")
    for i, (task, its) in enumerate(zip(stream.tasks[:trained], about.tasks, strict=False)):
        same = task.name == its.name and task.head == its.head
        same &= torch.equal(stream.targets[i].cpu(), targets[i])
        same &= all(_equal(its[i], there[name][i]) for name, its in ours.items())
        if not same:
            seeds = about.config.get("seed", ""), as_text(exp.seed)
            drawn = f"; seeds draw them, {seeds[0]} there, {seeds[1]} here"
            what = f"task {i + 1} is another one there ({its.name}) than here ({task.name})"
            return what + drawn * (seeds[0] != seeds[1])
    units = kept.tensors.get(weights.STREAM + weights.UNITS)
    same = [stream.mean.tolist(), stream.std.tolist()] == [about.mean, about.std]
    if not same or not _equal(stream.units, units):
        return "what is taken off the numbers, or what they are divided by, is another"
    if len(stream.tasks) == trained:
        more = f"ask for more of them with --set num_batch=N (now {trained})"
        if exp.in_effect.classes_per_task:
            more = "name more of them in classes_per_task"
        if exp.facts.split and sum(exp.in_effect.sizes) == exp.facts.classes:
            more = "take other ones with --name"  # all classes are dealt out
        what = f"all {trained} tasks of this stream have been trained there"
        raise _refused(kept, what, more)
    return ""


def _equal(mine: Tensor | None, its: Tensor | None) -> bool:
    if mine is None or its is None:
        return mine is its
    return torch.equal(mine.cpu(), its)


def _require_methods(exp: Experiment, methods: Sequence[Method], kept: Kept) -> None:
    """Refuse methods that do not know the tasks trained there, or remember them otherwise."""
    names, there = [method.name for method in methods], list(kept.about.memory)
    if sorted(names) != sorted(there):
        mine, its = (all_of(some) if some else NONE for some in (names, there))
        raise _refused(
            kept,
            f"its methods are {its}, those here {mine}: what a method remembers is of all tasks",
            f"choose the same methods ({its})",
        )
    if "separate" in names:
        raise _refused(kept, "separate shares all units out to the tasks that it was begun with")
    keys = {key: "contexts" for key in ("context",) if "contexts" in names}
    keys |= {key: exp.classifier for key in ("features",) if exp.counts(key)}
    for kind, value in exp.plug_ins:
        keys |= dict.fromkeys(plugins.keys(kind, value), value) if kind is plugins.METHOD else {}
    for key, name in keys.items():
        before, here = kept.about.config.get(key), as_text(getattr(exp, key))
        if before != here:
            why = f"{key} = {before} there, {here} here; {name} goes on with what it remembers"
            raise _refused(kept, why, f"keep {key} = {before}")


def _require_no_parts(exp: Experiment, kept: Kept) -> None:
    """Refuse tasks with parts of the network, which are known by the task alone."""
    ours = [name for name in kept.about.memory if name in plugins.METHOD.names]
    parts = [name for name in ours if hasattr(plugins.load(plugins.METHOD, name), PART)]
    for name in (*parts, *exp.parts):
        raise _refused(kept, f"with {name} every task has units of its own, here and there others")


def _refused(kept: Kept, why: str, remedy: str = ADVICE) -> WeightsError:
    what = f"begin_with = {shown_path(kept.path)} does not go on here"
    return WeightsError(what, why, remedy)


def _fill(mine: np.ndarray, row: Sequence[float | None]) -> None:
    """As far as the row goes."""
    count = min(len(mine), len(row))
    mine[:count] = [np.nan if value is None else value for value in row[:count]]
