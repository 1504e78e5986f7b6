"""What methods share whose tasks have units of their own where the scenario tells which task a
picture is of."""

from __future__ import annotations

from exps.experiment import Experiment
from exps.facts import Findings
from utils.engines.base import Engine
from utils.methods import base


def contradictions(exp: Experiment, name: str, size: int, keys: tuple[str, ...]) -> Findings:
    """Why a task cannot have `size` units of each hidden layer, which `keys` decide, with the
    method of this name."""
    if exp.scenario != "task":
        yield (
            ("scenario", "methods"),
            f"{name} has to be told at test time which task it is; choose scenario = task",
        )
    if not exp.fully_connected:
        yield ("methods", "cnn", "model"), f"{name} is for MLPs; choose model = mlp"
    if exp.sparsify and exp.sparse_layers != "own":
        yield ("methods", "sparse_layers"), f"{name} needs sparse_layers = own"
    k = round(exp.hidden_units * exp.percent_on_fc) if exp.sparsify else 0
    if size < 1:
        yield keys, f"a task has none of {exp.hidden_units} units"
    elif size < k:
        yield (
            (*keys, "percent_on_fc"),
            f"{k} units win, but only the {size} of a task may; choose a smaller percent_on_fc",
        )


class OwnUnits(base.Method):
    """Trains the units of a task; which they are says `units_of`, and how many `part_units` of the
    method's file. Nothing is remembered, and nothing held beside the network."""

    @property
    def size(self) -> int:
        """How many units of each hidden layer a task has."""
        return self.exp.parts[self.name]

    def begin_task(self, engine: Engine, task: int) -> None:
        """Train the units of the task."""
        engine.enter(task)
