"""Separate networks: the hidden units are shared out to the tasks, which so have a small network
each and cannot disturb one another; a bound for what sharing can gain (van de Ven & Tolias, 2019,
"Three scenarios for continual learning").

Which task it is has to be known at test time. Weights between units of different tasks, which the
whole network has, are never used. All that goes on from one task to the next are two numbers a
k-winner layer: its boost strength, and how many samples it has seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from exps.messages import all_of
from utils.methods import told


def part_units(exp: Experiment) -> int:
    """How many units of each hidden layer a task has."""
    return exp.hidden_units // exp.num_batch


def contradictions(exp: Experiment) -> Findings:
    """Why tasks cannot have networks of their own."""
    yield from told.contradictions(exp, "separate", part_units(exp), ("hidden_units", "num_batch"))


def doubts(exp: Experiment) -> Findings:
    """Why it might not be what was meant."""
    rest = exp.hidden_units % exp.num_batch
    if rest:
        yield (
            ("hidden_units", "num_batch"),
            f"{exp.hidden_units} units shared out to {exp.num_batch} tasks leave {rest} unused",
        )
    idle = [name for name in exp.all_methods if name in ("ewc", "mas", "old_synapses", "si")]
    if idle:
        yield (
            ("methods", "old_synapse_lr"),
            f"separate networks share no synapse, so {all_of(idle)} can do nothing",
        )


class Method(told.OwnUnits):
    """Gives tasks their units in order."""

    def units_of(self, task: int) -> Tensor:
        """The units of each hidden layer that are the task's, int64 [layers, size], in order."""
        units = torch.arange(task * self.size, (task + 1) * self.size)
        return units.expand(self.exp.hidden_layers, -1)
