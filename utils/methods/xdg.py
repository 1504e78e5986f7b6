"""Context-dependent gating: in every task a random subset of the units of each hidden layer takes
part, and all others are zero (Masse, Grant & Freedman, 2018, "Alleviating catastrophic forgetting
using context-dependent gating and synaptic stabilization").

Which task it is has to be known at test time. Zero units neither act nor learn, so a task trains
and tests a smaller network. With `methods = ewc, xdg` the synapses that tasks share are held too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number
from utils.methods import told
from utils.methods.base import draws

KEYS = {
    "xdg_gated": Key(
        0.8,
        Number(0, 1, below=True),
        "share of the units of each hidden layer that a task is without",
    ),
}
DRAW = 11  # sets the draws of units apart from whatever else is drawn from the seed


def part_units(exp: Experiment) -> int:
    """How many units of each hidden layer take part in a task."""
    gated: float = exp.xdg_gated
    return exp.hidden_units - round(exp.hidden_units * gated)


def contradictions(exp: Experiment) -> Findings:
    """Why units cannot be gated."""
    yield from told.contradictions(exp, "xdg", part_units(exp), ("xdg_gated", "hidden_units"))


def doubts(exp: Experiment) -> Findings:
    """Why gating comes to nothing."""
    if part_units(exp) == exp.hidden_units:
        yield (
            ("xdg_gated", "hidden_units"),
            f"xdg_gated = {exp.xdg_gated:g} of {exp.hidden_units} units is none",
        )


class Method(told.OwnUnits):
    """Draws the units of a task from the seed."""

    def units_of(self, task: int) -> Tensor:
        """The units of each hidden layer that take part, int64 [layers, size], in order."""
        exp, generator = self.exp, draws(DRAW, self.exp.seed, task)
        orders = [
            torch.randperm(exp.hidden_units, generator=generator) for _ in range(exp.hidden_layers)
        ]
        return torch.stack(orders)[:, : self.size].sort(1).values
