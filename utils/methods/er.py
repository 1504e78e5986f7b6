"""Experience replay: every step trains on pictures of a small memory too (Chaudhry et al., 2019,
"On tiny episodic memories in continual learning"), a reservoir of all pictures seen so far.

Every picture counts the same, whether it is new or from memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Whole
from utils.engines.base import Engine
from utils.engines.batch import Batch, Part
from utils.methods import base
from utils.methods.base import Moment
from utils.methods.memory import Reservoir

KEYS = {
    "buffer_size": Key(
        500, Whole(1, 10_000_000, "pictures"), "how many earlier pictures are kept in memory"
    ),
    "er_batch": Key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "how many of them every step trains on too; 0: as many as mb_size",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why pictures of earlier tasks cannot be trained on."""
    if "contexts" in exp.all_methods:
        yield (
            ("methods", "context"),
            "a step in a context trains its units alone, and pictures of earlier tasks have "
            "others; choose er or contexts",
        )


class Method(base.Method):
    """Adds pictures of the memory to every mini-batch: a part for each head."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.memory = Reservoir(exp.buffer_size, exp.seed)
        self.size = exp.er_batch or exp.mb_size
        self.first = False  # whether this is the first epoch of a task, in which a picture is new
        self.heads = torch.tensor([task.head for task in stream.training])

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, and pictures of the memory."""
        self.first = now.step < now.epoch
        if not len(self.memory):
            return batch
        device = self.stream.train.x.device
        drawn = self.memory.draw(self.size, device)
        total = batch.current.size + len(drawn)
        batch = Batch((batch.current._replace(weight=batch.current.size / total), *batch.parts[1:]))
        assert isinstance(drawn.view, Tensor)
        heads = self.heads[drawn.view.cpu()]
        for head in heads.unique().tolist():
            some = drawn.take((heads == head).nonzero().flatten().to(device))
            batch = Batch((*batch.parts, Part(some, head, len(some) / total)))
        return batch

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """Offer what was new to the memory."""
        if self.first:
            self.memory.offer(batch.current.samples)

    def state(self) -> dict[str, Any]:
        """The memory."""
        return self.memory.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.memory.restore(state)
