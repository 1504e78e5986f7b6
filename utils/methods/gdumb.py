"""GDumb: nothing is learned from the stream but which pictures to keep, and after every task a new
network is trained on these alone (Prabhu et al., 2020, "GDumb: a simple approach that questions our
progress in continual learning").

As many of every class are kept. Training takes the steps that the task has; the paper's schedule
and cutmix are left out.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from models import make_model
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, memory
from utils.methods.base import Costs, Moment, draws
from utils.methods.memory import ByClass

KEYS = {
    "buffer_size": memory.KEYS["buffer_size"],
    "buffer_per_class": memory.KEYS["buffer_per_class"],
}
DRAW = 8  # sets the draws of new networks apart from whatever else is drawn from the seed


def contradictions(exp: Experiment) -> Findings:
    """Why the network cannot begin anew."""
    yield from memory.no_parts(exp, "gdumb")
    yield from memory.too_few(exp)
    if others := [name for name in exp.all_methods if name not in ("gdumb", "census")]:
        yield (
            ("methods",),
            f"gdumb begins anew in every task, and nothing is left of {others[0]}; choose one",
        )


class Method(base.Method):
    """Puts pictures of the memory in the place of every mini-batch."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.memory = ByClass(exp, stream)

    def begin_task(self, engine: Engine, task: int) -> None:
        """Keep pictures of the task, and begin anew."""
        self.memory.keep(self.memory.shuffled(self.stream.training[task].train))
        if task:
            engine.renew(new_network(self.exp, self.stream, task).to(engine.device))

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """Pictures of the memory alone."""
        parts = self.memory.parts(self.memory.draw(self.exp.mb_size), 1.0, batch.current)
        # What is measured is measured on the first part.
        return Batch(tuple(sorted(parts, key=lambda part: part.head != batch.current.head)))

    def costs(self, engine: Engine) -> Costs:
        """The memory."""
        return self.memory.costs()

    def state(self) -> dict[str, Any]:
        """The memory."""
        return self.memory.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.memory.restore(state)


def new_network(exp: Experiment, stream: TaskStream, task: int) -> Any:
    """A network of the experiment, drawn anew for a task."""
    with torch.random.fork_rng():
        torch.manual_seed(draws(DRAW, exp.seed, task).initial_seed())
        return make_model(exp, stream.input_shape, stream.head_sizes)
