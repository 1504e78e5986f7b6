"""Contexts: each task has units of its own, and a picture finds its task by itself, or is told.

The context of a picture is the task whose training pictures have the nearest mean (Iyer et al.,
2022, "Avoiding Catastrophe: Active Dendrites Enable Multi-Task Learning in Dynamic Environments"),
or the likeliest class, or whose context is surest: `familiar.py`; or that of its head. Which units
may win in a context is settled when its task begins. No training picture is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps import parts
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key, When
from exps.kinds import Number, Whole
from models.network import Network
from sparse_syn.k_winners import KWinnersBase
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, familiar
from utils.methods.base import Costs, Moment, draws, fill

KEYS = {
    "context_units": Key(
        400,
        Whole(1, 1_000_000, "units"),
        "units of the first hidden layer that may win in a context (with cnn and resnet18 channels "
        "of the first convolution), and as large a share of every other",
    ),
    "context_overlap": Key(
        0.0,
        Number(0, 1),
        "share of them taken over from earlier contexts; the others are those used least so far",
        When("more than one task", lambda exp: exp.num_batch > 1),
    ),
    "context_shrink": Key(
        0.06,
        Number(0, 1e6, above=True),
        "what is added to the variance of every input in the Gaussian of a class",
        When("context = gaussian", lambda exp: exp.context == "gaussian"),
    ),
}
PART_KEYS = ("context_units",)
DRAW = 2  # sets the draws of units apart from whatever else is drawn from the seed


def part_of(exp: Experiment, units: int) -> int:
    """How many of so many units a task has."""
    return round(units * exp.context_units / exp.groups[0])


def contradictions(exp: Experiment) -> Findings:
    """Why tasks cannot have contexts."""
    yield from familiar.contradictions(exp)
    if exp.context == "given":
        yield from parts.untold(exp, "context = given")
    if exp.cumul:
        yield ("context", "cumul"), "contexts are tasks that come one after the other; not cumul"


def doubts(exp: Experiment) -> Findings:
    """Why contexts might not be what was meant."""
    share = exp.context_overlap
    if share > 0 and not any(_shared(size, exp) for size in exp.part.groups):
        yield (
            ("context_overlap", "context_units"),
            f"context_overlap = {share:g} of {exp.context_units} units is none",
        )
    for units, size in zip(exp.groups, exp.part.groups, strict=True):
        fresh = size - _shared(size, exp)
        if size + (exp.num_batch - 1) * fresh > units:
            yield (
                ("context_units", "num_batch"),
                f"{exp.num_batch} contexts of {size} take units of earlier ones beyond what "
                f"context_overlap says, for there are {units} in all",
            )
            return
    if not any(_shared(size, exp) for size in exp.part.groups):
        yield from parts.idle(exp, "contexts that share no unit (context_overlap)")


def _shared(size: int, exp: Experiment) -> int:
    return round(size * exp.context_overlap)


class Method(base.Method):
    """The contexts of a stream of tasks, filled in one after the other: a `Router`, where they are
    not told.

    units: int64 [tasks, size] of each group, the units that may win, in order; begun: int64 [], how
    many tasks have; rule: what pictures find their context by.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.told, tasks, self.widths = exp.context == "given", len(stream.training), exp.groups
        self.units = [torch.zeros(tasks, n, dtype=torch.int64) for n in exp.part.groups]
        self.begun = torch.zeros((), dtype=torch.int64)
        self.rule = None if self.told else familiar.RULES[exp.context](self.exp, stream)
        self.tables: tuple[Tensor, ...] = ()  # once they are needed after a step

    @property
    def known(self) -> int:
        """How many tasks have begun."""
        return int(self.begun)

    def units_of(self, task: int) -> list[Tensor]:
        """The units of each group that may win in a task, int64 [size]; [] before it begins."""
        return [units[task] for units in self.units] if task < self.known else []

    @torch.no_grad()
    def route(self, x: Tensor, ask: familiar.Ask) -> Tensor:
        """The context that each of x [batch, inputs] finds: int64 [batch]."""
        assert self.rule, "pictures that are told their context find none"
        if not self.tables:
            self.tables = tuple(table.to(x.device) for table in self.rule.tables(self.known))
        return self.rule.find(x, self.tables, ask)

    def begin_task(self, engine: Engine, task: int) -> None:
        """Recruit the units of the task, and train them alone."""
        assert task == self.known, "tasks come in order"
        self.recruit(_duty_cycles(engine.model, self.widths))
        self.tables = ()
        engine.enter(task)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """Count the pictures for their context; in the first epoch each comes once."""
        if self.rule and now.step < now.epoch:
            train, samples = self.stream.train, batch.current.samples
            x = self.stream.inputs(train, samples).flatten(1)
            self.rule.add(now.task, x, self.stream.labels(train, samples))
            self.tables = ()
        return batch

    def recruit(self, duty_cycles: list[Tensor]) -> None:
        """Begin the next context: of each group, by the duty cycles [width] of its units.

        First the shared ones, among the units of earlier contexts, then the others: those in the
        fewest contexts, of these the ones that won least, and of these some at random.
        """
        task = self.known
        generator = draws(self.exp.seed, DRAW, task)
        for units, width, duty_cycle in zip(self.units, self.widths, duty_cycles, strict=True):
            contexts, size = units[:task].flatten().bincount(minlength=width), units.shape[1]
            chance = torch.rand(width, generator=generator).numpy()
            order = torch.from_numpy(np.lexsort((chance, duty_cycle.cpu().numpy(), contexts)))
            old = contexts[order] > 0
            shared = order[old][: _shared(size, self.exp)]
            others = order[~torch.isin(order, shared)][: size - len(shared)]
            units[task] = torch.cat([shared, others]).sort().values
        self.begun += 1

    def costs(self, engine: Engine) -> Costs:
        """The sums that contexts are found by."""
        return Costs(parameters=sum(sums.numel() for sums in self._sums().values()))

    def state(self) -> dict[str, Any]:
        """All of it; the memory itself."""
        return {"units": self.units, "begun": self.begun, **self._sums()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        for mine, saved in zip(self.units, state["units"], strict=True):
            fill(mine, saved)
        for name, value in {"begun": self.begun, **self._sums()}.items():
            fill(value, state[name])
        self.tables = ()

    def _sums(self) -> dict[str, Tensor]:
        return {name: getattr(self.rule, name) for name in self.rule.kept} if self.rule else {}


def _duty_cycles(model: Network, widths: Sequence[int]) -> list[Tensor]:
    """Of the units of each group, float32 [units]: the sum over the layers that let them win."""
    found = [torch.zeros(width) for width in widths]
    for module, _, group in model.wires:
        for layer in module.modules():
            if isinstance(layer, KWinnersBase):
                found[group] = found[group] + layer.duty_cycle.flatten().cpu()
    return found
