"""Separate networks: the hidden units are shared out to the tasks, which so have a small network
each and cannot disturb one another; a bound for what sharing can gain (van de Ven & Tolias, 2019,
"Three scenarios for continual learning").

Which task it is has to be known at test time. Weights between units of different tasks, which the
whole network has, are never used. Nothing goes on from one task to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps import parts
from exps.config import Experiment
from exps.facts import Findings
from utils.methods import told

PART_KEYS = ("num_batch",)


def part_of(exp: Experiment, units: int) -> int:
    """How many of so many units a task has."""
    return units // exp.num_batch


def contradictions(exp: Experiment) -> Findings:
    """Why there are too few units for all tasks."""
    for units, size in zip(exp.groups, exp.part.groups, strict=False):
        if size * exp.num_batch > units:
            yield (
                ("num_batch", "model"),
                f"{exp.num_batch} parts of {size} units are more than the {units} that there are;"
                f" see WIDTHS and groups of {exp.model}",
            )
            return


def doubts(exp: Experiment) -> Findings:
    """Why it might not be what was meant."""
    for key in exp.widths:
        units = getattr(exp, key)
        if rest := units % exp.num_batch:
            what = f"{units} {parts.called(key)} shared out to {exp.num_batch} tasks"
            yield (key, "num_batch"), f"{what} leave {rest} unused"
    yield from parts.idle(exp, "separate networks")


class Method(told.OwnUnits):
    """Gives tasks their units in order."""

    def units_of(self, task: int) -> list[Tensor]:
        """The units of each group that are the task's, int64 [size], in order."""
        return [torch.arange(task * size, (task + 1) * size) for size in self.exp.part.groups]
