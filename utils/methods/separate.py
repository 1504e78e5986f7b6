"""Separate networks: the hidden units are shared out to the tasks, which so have a small network
each and cannot disturb one another; a bound for what sharing can gain (van de Ven & Tolias, 2019,
"Three scenarios for continual learning").

Which task it is has to be known at test time. Weights between units of different tasks, which the
whole network has, are never used. Nothing goes on from one task to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from utils.methods import told


def part_of(exp: Experiment, units: int) -> int:
    """How many of so many units a task has."""
    return units // exp.num_batch


def contradictions(exp: Experiment) -> Findings:
    """Why tasks cannot have networks of their own."""
    yield from told.contradictions(exp, "separate", part_of, "num_batch")


def doubts(exp: Experiment) -> Findings:
    """Why it might not be what was meant."""
    for key in exp.widths:
        units = getattr(exp, key)
        if rest := units % exp.num_batch:
            what = f"{units} {told.called(key)} shared out to {exp.num_batch} tasks"
            yield (key, "num_batch"), f"{what} leave {rest} unused"
    yield from told.idle(exp, "separate networks")


class Method(told.OwnUnits):
    """Gives tasks their units in order."""

    def units_of(self, task: int) -> list[Tensor]:
        """The units of each group that are the task's, int64 [size], in order."""
        return [torch.arange(task * size, (task + 1) * size) for size in self.exp.part.groups]
