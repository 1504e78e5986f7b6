"""What a method of continual learning may do: hooks around tasks and steps, which do nothing here.

A method is a file beside this one with a class `Method` derived from the one below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models.costs import layer_costs
from models.network import Network
from utils.engines.base import Engine, Need
from utils.engines.batch import Batch

# Of test pictures and a head: [n, classes], and the right outputs int64 [n].
Scores = Callable[[Engine, Samples, int], tuple[Tensor, Tensor]]


class Moment(NamedTuple):
    """The step that comes next: `step` (from 0) of the `total` of its task (from 0), of which
    `epoch` make an epoch."""

    task: int
    step: int
    epoch: int
    total: int


class Costs(NamedTuple):
    """What a method has cost, beyond the network and its training on the pictures of a task.

    parameters: numbers that are held beside the network, or in others; pictures: those that are
    kept, and memory: the bytes of them and of what is kept with them; macs: multiply-adds a step.
    """

    parameters: int = 0
    pictures: int = 0
    memory: int = 0
    macs: int = 0


class Method:
    """Does nothing."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        self.exp, self.stream = exp.in_effect, stream

    @property
    def name(self) -> str:
        """That of its file."""
        module = type(self).__module__
        return module.rpartition("@")[0] or module.rpartition(".")[2]

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks of an engine; the fastest that has it is taken."""
        return frozenset()

    def prepare(self, model: Network) -> None:
        """Attach what is shaped like the parameters (`models.synapses.attach`) to a new network, or
        to one that is to be a part of it."""

    def begin_task(self, engine: Engine, task: int) -> None:
        """The task with this number (from 0) will be trained now."""

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """What the step trains on: the batch, perhaps with more parts."""
        return batch

    def loss(self, logits: list[Tensor], labels: list[Tensor], batch: Batch) -> Tensor | None:
        """A scalar that is added to the loss; logits [n, classes] and the right outputs int64 [n],
        part by part. A step may be recorded and replayed: what changes from step to step is read
        from memory that stays where it is, and filled in by `before_step`."""
        return None

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """The step is taken; with Need.GRADIENTS its gradients are still there."""

    def read(self, engine: Engine, samples: Samples, task: int) -> None:
        """Training pictures of a task that has been trained, some at a time, each once, in an order
        of their own that is always the same; `end_task` comes after the last."""

    def end_task(self, engine: Engine, task: int) -> None:
        """The task has been trained; its tests come next."""

    def scores(self, engine: Engine, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """What test pictures are classified by after tasks in place of the engine's logits [n,
        classes], and the right outputs int64 [n]; of several methods the first that has any
        counts."""
        return engine.logits(samples, head)

    def costs(self, engine: Engine) -> Costs:
        """What it has cost so far: nothing."""
        return Costs()

    def plan(self, engine: Engine) -> str:
        """What `--dry-run` says of what it will cost, in a line: nothing."""
        return ""

    def result(self) -> dict[str, np.ndarray]:
        """What it has to say in the result, after every task."""
        return {}

    def state(self) -> dict[str, Any]:
        """All that it remembers outside of the network, for a checkpoint: tensors and numbers."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; the engine follows."""

    def resume(self, engine: Engine) -> None:
        """The engine continues in the middle of a task: tell it again what it was told."""


def fill(mine: Tensor, saved: Tensor) -> None:
    """Copy what was saved, which may be of fewer tasks or outputs: then it comes first."""
    mine[tuple(slice(n) for n in saved.shape)] = saved.to(mine.device)


def step_macs(engine: Engine, stream: TaskStream) -> int:
    """Multiply-adds to train on one picture: forward, and twice as many backward."""
    return 3 * sum(cost.macs for cost in layer_costs(engine.active, stream.input_shape))


def draws(*seed: int) -> torch.Generator:
    """A generator of its own for every purpose (the first number) and moment."""
    draw = np.random.SeedSequence(seed).generate_state(1, np.uint64).item()
    return torch.Generator().manual_seed(draw)
