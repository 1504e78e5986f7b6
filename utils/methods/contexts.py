"""Contexts: each task has units of its own, and a picture finds its task by itself.

The context of a picture is the task whose training pictures have the nearest mean (Iyer et al.,
2022, "Avoiding Catastrophe: Active Dendrites Enable Multi-Task Learning in Dynamic Environments"),
or the likeliest class: `familiar.py`. Which units may win in a context is settled when its task
begins. No training picture is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key, When
from exps.kinds import Number, Whole
from models.synapses import winner_layers
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, familiar
from utils.methods.base import Costs, Moment, draws, fill

KEYS = {
    "context_units": Key(
        400,
        Whole(1, 1_000_000, "units"),
        "units of each hidden layer that may win in a context",
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
DRAW = 2  # sets the draws of units apart from whatever else is drawn from the seed


def part_units(exp: Experiment) -> int:
    """How many units of each hidden layer a task has."""
    size: int = exp.context_units
    return size


def contradictions(exp: Experiment) -> Findings:
    """Why tasks cannot have contexts."""
    size, k = exp.context_units, round(exp.hidden_units * exp.percent_on_fc)
    yield from familiar.contradictions(exp)
    if not exp.fully_connected:
        yield (
            ("context", "cnn", "model", "methods"),
            "contexts are for MLPs; choose model = mlp or context = none",
        )
    if exp.cumul:
        yield ("context", "cumul"), "contexts are tasks that come one after the other; not cumul"
    if exp.sparse_layers != "own":
        yield ("context", "sparse_layers"), "contexts need sparse_layers = own"
    if size > exp.hidden_units:
        yield (
            ("context_units", "hidden_units"),
            f"{size} units of a context are more than the {exp.hidden_units} that there are",
        )
    if size < k:
        yield (
            ("context_units", "percent_on_fc", "hidden_units"),
            f"{k} units win, but only the {size} of a context may; "
            "choose more context_units or a smaller percent_on_fc",
        )


def doubts(exp: Experiment) -> Findings:
    """Why contexts might not be what was meant."""
    share = exp.context_overlap
    if share > 0 and round(exp.context_units * share) < 1:
        yield (
            ("context_overlap", "context_units"),
            f"context_overlap = {share:g} of {exp.context_units} units is none",
        )


class Method(base.Method):
    """The contexts of a stream of tasks, filled in one after the other: a `Router`.

    units: int64 [tasks, layers, size], the units of each hidden layer that may win, in order;
    begun: int64 [], how many tasks have; rule: what pictures find their context by.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        tasks, size = len(stream.training), part_units(exp)
        self.width, self.shared = exp.hidden_units, round(size * exp.context_overlap)
        self.units = torch.zeros(tasks, exp.hidden_layers, size, dtype=torch.int64)
        self.begun = torch.zeros((), dtype=torch.int64)
        self.rule = familiar.RULES[exp.context](self.exp, stream)
        self.tables: tuple[Tensor, ...] = ()  # once they are needed after a step

    @property
    def known(self) -> int:
        """How many tasks have begun."""
        return int(self.begun)

    @property
    def size(self) -> int:
        """How many units of each hidden layer a task has."""
        return self.units.shape[2]

    def units_of(self, task: int) -> Tensor:
        """The units of each hidden layer that may win in a task, int64 [layers, size]."""
        return self.units[task]

    @torch.no_grad()
    def route(self, x: Tensor) -> Tensor:
        """The context that each of x [batch, inputs] finds: int64 [batch]."""
        if not self.tables:
            self.tables = tuple(table.to(x.device) for table in self.rule.tables(self.known))
        return self.rule.nearest(x, self.tables)

    def begin_task(self, engine: Engine, task: int) -> None:
        """Recruit the units of the task, and train them alone."""
        assert task == self.known, "tasks come in order"
        self.recruit([layer.duty_cycle for layer in winner_layers(engine.model)])
        engine.enter(task)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """Count the pictures for their context; in the first epoch each comes once."""
        if now.step < now.epoch:
            train, samples = self.stream.train, batch.current.samples
            x = self.stream.inputs(train, samples).flatten(1)
            self.rule.add(now.task, x, self.stream.labels(train, samples))
            self.tables = ()
        return batch

    def recruit(self, duty_cycles: list[Tensor]) -> None:
        """Begin the next context: of each layer, by the duty cycles [width] of its units.

        First the shared ones, among the units of earlier contexts, then the others: those in the
        fewest contexts, of these the ones that won least, and of these some at random.
        """
        task = self.known
        generator = draws(self.exp.seed, DRAW, task)
        for layer, duty_cycle in enumerate(duty_cycles):
            contexts = self.units[:task, layer].flatten().bincount(minlength=self.width)
            chance = torch.rand(self.width, generator=generator).numpy()
            order = torch.from_numpy(np.lexsort((chance, duty_cycle.cpu().numpy(), contexts)))
            old = contexts[order] > 0
            shared = order[old][: self.shared]
            others = order[~torch.isin(order, shared)][: self.size - len(shared)]
            chosen = torch.cat([shared, others]).sort().values
            self.units[task, layer] = chosen
        self.begun += 1

    def costs(self, engine: Engine) -> Costs:
        """The sums that contexts are found by."""
        return Costs(parameters=sum(getattr(self.rule, name).numel() for name in self.rule.kept))

    def state(self) -> dict[str, Any]:
        """All of it; the memory itself."""
        mine = {name: getattr(self.rule, name) for name in self.rule.kept}
        return {"units": self.units, "begun": self.begun, **mine}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        for name, value in self.state().items():
            fill(value, state[name])
        self.tables = ()
