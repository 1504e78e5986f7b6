"""What a run has measured, and where it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.messages import Told
from models.costs import k_winner_layers
from models.network import Network
from utils.engines.meter import EpochRecord
from utils.methods.base import Costs
from utils.training.recorded import Kept, nothing_kept

# What a result may have besides, whether or not this one has.
RESERVED = (
    *("meta", "method_costs", "context_right", "accs_given_task", "epochs", "best_epochs"),
    *("picture_tasks", "picture_correct", "picture_confidence", "confusion", "output_tasks"),
    *("curve_tasks", "curve_steps", "curve_accs"),
)
NOT_KEPT = np.zeros(0, np.int64)  # a number a unit and epoch would fill the memory of a long run
BEFORE, TRAINING, TESTING = "before", "training", "testing"  # phases of a task


class Length(NamedTuple):
    """How long a task is trained: `total` steps, `epoch` of them an epoch; the last one may be
    shorter."""

    epoch: int
    total: int

    @property
    def epochs(self) -> int:
        """How many, a cut one included."""
        return -(-self.total // self.epoch)

    def steps_of(self, epoch: int) -> int:
        """Of the epoch with this number (from 0)."""
        return min(self.epoch, self.total - epoch * self.epoch)


def lengths(exp: Experiment, stream: TaskStream) -> list[Length]:
    """Of every task: train_steps, where they are set, else the epochs."""
    found = []
    for i, task in enumerate(stream.training):
        epoch = -(-len(task.train) // exp.mb_size)
        found.append(Length(epoch, exp.steps(i, epoch)))
    return found


@dataclass
class Curve:
    """Tests while tasks are trained, a row each: after every so many steps of a task, and after the
    task, which are the tests there are in any case. In a run that has none it has no rows.

    tasks: int64 [tests], the task (from 0); at: int64 [tests], its steps then; steps: the same of
    the run; accs: float64 [tests, tasks], NaN where not tested (yet); done: rows that are complete.
    """

    tasks: np.ndarray
    at: np.ndarray
    steps: np.ndarray
    accs: np.ndarray
    done: int = 0

    def due(self, task: int, step: int) -> np.ndarray | None:
        """The row to be filled after so many steps of a task; None where there is none then, and
        for that after the task."""
        more = self.tasks[self.done + 1 : self.done + 2] == task  # no test is behind the last
        return self.accs[self.done] if more.any() and not self.ahead(task, step) else None

    def ahead(self, task: int, step: int) -> int:
        """How many steps there are to the next test within the task, or to its end; many where no
        tests are within tasks."""
        return int(self.at[self.done]) - step if self.done < len(self.at) else sys.maxsize

    def begin_behind(self, accs: np.ndarray) -> None:
        """These were tested after the first tasks, which another run has trained; whatever was
        tested within them is not known here."""
        if len(self.accs):
            ends = np.flatnonzero(np.diff(self.tasks, append=-1))[: len(accs)]
            self.accs[ends], self.done = accs, int(ends[-1]) + 1

    def end_task(self, accs: np.ndarray) -> None:
        """These were tested after the task."""
        if len(self.accs):
            self.accs[self.done] = accs
            self.done += 1

    def within(self, first: int) -> list[int]:
        """The task of every test within one, from this task on."""
        inner = self.tasks[np.diff(self.tasks, append=-1) == 0]
        found: list[int] = inner[inner >= first].tolist()
        return found

    def stats(self) -> dict[str, np.ndarray]:
        """As a result has it."""
        parts = {"tasks": self.tasks, "steps": self.steps, "accs": self.accs}
        return {f"curve_{name}": part for name, part in parts.items() if len(self.accs)}


def empty_curve(every: int, lengths: list[Length], tasks: int) -> Curve:
    """For tests after every so many steps; 0: none. tasks: how many are tested."""
    rows: list[tuple[int, int, int]] = []
    for task, (_, total) in enumerate(lengths if every else []):
        before = sum(length.total for length in lengths[:task])
        rows += [(task, at, before + at) for at in (*range(every, total, every), total)]
    task_of, at_of, steps = np.array(rows, np.int64).reshape(-1, 3).T.copy()
    return Curve(task_of, at_of, steps, np.full((len(rows), tasks), np.nan))


@dataclass
class RunRecord:
    """Everything measured so far; complete or not, `stats()` is what a result holds.

    accs: [tasks trained, tasks tested], NaN where nothing was tested (yet); untrained: the same of
    the network before any training [tasks]; layers: the names of the k-winner activations; lengths:
    of each task; epochs: what each looked like, but how often units were on, which is added up by
    task in unit_on; context_right: for how large a part of the pictures the context was found, in
    the shape of accs, NaN without contexts; given: accs where the task is known, NaN where that is
    no other question; kept: what `record` asks for; curve: tests while tasks are trained; trained,
    best: int64 [tasks trained], for how many epochs each was, and after how many it was best;
    measured: what methods have to say, see `Method.result`; method_costs: of the methods that cost
    anything, as `Costs` names them, after the last task trained; train_seconds: for so many steps,
    and what methods do around tasks.
    """

    accs: np.ndarray
    untrained: np.ndarray
    layers: list[str]
    lengths: list[Length]
    epochs: list[EpochRecord] = field(default_factory=list)
    unit_on: list[np.ndarray] = field(default_factory=list)  # per task, int64 [units]
    weight_density: dict[str, float] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)  # see `sparsity.LayerCost`
    max_entropy: list[float] = field(default_factory=list)  # of each k-winner activation
    context_right: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    given: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    kept: Kept = field(default_factory=Kept)
    curve: Curve = field(default_factory=lambda: empty_curve(0, [], 0))
    trained: np.ndarray = field(default_factory=lambda: NOT_KEPT)
    best: np.ndarray = field(default_factory=lambda: NOT_KEPT)
    measured: dict[str, np.ndarray] = field(default_factory=dict)
    method_costs: dict[str, dict[str, int]] = field(default_factory=dict)
    steps: int = 0
    train_seconds: float = 0.0
    elapsed: float = 0.0

    def entropy(self) -> np.ndarray:
        """float64 [epochs, layers], see `sparsity.entropies`."""
        bits = [e.entropy for e in self.epochs]
        return np.array(bits, np.float64).reshape(len(bits), len(self.layers))

    def add_measured(self, by: str, found: dict[str, np.ndarray]) -> None:
        """Take note of what a method has to say. Told for a name that is taken."""
        for name, array in found.items():
            array = np.asarray(array)
            if array.dtype.kind not in "biuf":
                raise Told(f"methods = {by}: its result {name!r} is no array of numbers")
            if name in (*self.stats(), *RESERVED):
                why = f"a result named {name!r} is there already; give it another name"
                raise Told(f"methods = {by}: {why}")
            self.measured[name] = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)

    def add_costs(self, by: str, found: Costs) -> None:
        """Take note of what a method has cost, if it has. Told for what cannot be that."""
        numbers = found if isinstance(found, Costs) else [None]
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in numbers):
            raise Told(f"methods = {by}: costs has to return Costs, of whole numbers from 0")
        if any(found):
            self.method_costs[by] = {name: int(n) for name, n in found._asdict().items()}

    def stats(self) -> dict[str, object]:
        """Plain Python and numpy, under the names of the 2019 results where they had one."""
        unit_on = np.array(self.unit_on)
        if not self.epochs or np.isnan(self.epochs[0].active):  # record_stats = false
            unit_on = np.zeros((len(self.unit_on), 0), np.int64)
        return {
            "accs": self.accs,
            "untrained": self.untrained,
            "perc_on_avg": np.array([e.active for e in self.epochs]),
            "perc_on_std": np.array([e.active_std for e in self.epochs]),
            "on_idxs": unit_on,
            "loss": np.array([e.loss for e in self.epochs]),
            "train_acc": np.array([e.accuracy for e in self.epochs]),
            "k_winner_layers": self.layers,
            "entropy": self.entropy(),
            "max_entropy": np.array(self.max_entropy),
            "weight_density": self.weight_density,
            "costs": self.costs,
            **({"method_costs": self.method_costs} if self.method_costs else {}),
            "steps": self.steps,
            "train_seconds": self.train_seconds,
            "elapsed": self.elapsed,
            **({} if np.isnan(self.context_right).all() else {"context_right": self.context_right}),
            **({} if np.isnan(self.given).all() else {"accs_given_task": self.given}),
            **self.kept.parts,
            **self.curve.stats(),
            **({"epochs": self.trained, "best_epochs": self.best} if self.best.any() else {}),
            **self.measured,
        }


def empty_record(exp: Experiment, stream: TaskStream, model: Network) -> RunRecord:
    """The record of a run that has not begun."""
    tasks = len(stream.tasks)
    accs = np.full((len(stream.training), tasks), np.nan)
    layers = [name for name, _ in k_winner_layers(model)]
    untrained = np.full(tasks, np.nan)
    each = lengths(exp, stream)
    curve = empty_curve(exp.in_effect.eval_every, each, tasks)
    return RunRecord(
        accs,
        untrained,
        layers,
        each,
        context_right=accs.copy(),
        given=accs.copy(),
        kept=nothing_kept(exp, stream),
        curve=curve,
        trained=np.zeros(len(accs), np.int64),
        best=np.zeros(len(accs), np.int64),
    )


@dataclass
class Place:
    """Where in a run training is: so many tasks are done, so many epochs of the task after them,
    and so many steps of the epoch after those. first: the task with which the run begins; phase: of
    the task: before, training or testing; read: how many of its pictures methods have read after
    the last epoch. Where pictures are watched, the largest accuracy on them after an epoch of the
    task, the state after that epoch, and how many epochs have been trained since.

    order: uint8, the state of the order's generator before the shuffle of that epoch (None: as the
    generator is); unit_on: int64 [units], in how many samples of the task each unit was on.
    """

    task: int = 0
    epoch: int = 0
    step: int = 0
    phase: str = BEFORE
    order: Tensor | None = None
    unit_on: np.ndarray | None = None
    read: int = 0
    first: int = 0
    accuracy: float = 0.0
    best: Any = None
    since: int = 0

    @property
    def begun(self) -> bool:
        """Whether a step has been taken."""
        return self.task > self.first or self.phase != BEFORE
