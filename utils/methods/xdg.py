"""Context-dependent gating: in every task a random subset of the units of each hidden layer takes
part, and all others are zero (Masse, Grant & Freedman, 2018, "Alleviating catastrophic forgetting
using context-dependent gating and synaptic stabilization").

Which task it is has to be known at test time. Zero units neither act nor learn, so a task trains
and tests a smaller network. With `methods = ewc, xdg` the synapses that tasks share are held too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps import parts
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
        "share of the units of each hidden layer, channels too, that a task is without",
    ),
}
PART_KEYS = ("xdg_gated",)
DRAW = 11  # sets the draws of units apart from whatever else is drawn from the seed


def part_of(exp: Experiment, units: int) -> int:
    """How many of so many units take part in a task."""
    gated: float = exp.xdg_gated
    return units - round(units * gated)


def doubts(exp: Experiment) -> Findings:
    """Why gating comes to nothing."""
    for key in exp.widths:
        units = getattr(exp, key)
        if part_of(exp, units) == units:
            why = f"xdg_gated = {exp.xdg_gated:g} of {units} {parts.called(key)} is none"
            yield ("xdg_gated", key), why


class Method(told.OwnUnits):
    """Draws the units of a task from the seed."""

    def units_of(self, task: int) -> list[Tensor]:
        """The units of each group that take part, int64 [size], in order."""
        generator = draws(DRAW, self.exp.seed, task)
        return [
            torch.randperm(units, generator=generator)[:size].sort().values
            for units, size in zip(self.exp.groups, self.exp.part.groups, strict=True)
        ]
