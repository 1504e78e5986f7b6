"""Dark experience replay: what the network said of pictures when they came it is to say of them
later (Buzzega et al., 2020, "Dark experience for general continual learning: a strong, simple
baseline").

The loss has α times the mean square of how far the logits of pictures of a reservoir are from those
kept with them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number, Whole
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, memory
from utils.methods.base import Costs, Moment, fill, step_macs
from utils.methods.memory import Reservoir

KEYS = {
    "buffer_size": memory.KEYS["buffer_size"],
    "der_batch": Key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "pictures of the memory that every step has, for each of its losses; 0: as many as mb_size",
    ),
    "der_alpha": Key(0.5, Number(0, 1e6), "how much the logits that are kept count (α)"),
}


def contradictions(exp: Experiment) -> Findings:
    """Why pictures of earlier tasks cannot be trained on."""
    yield from memory.no_parts(exp, "der")


class Method(base.Method):
    """kept: float32 [buffer_size, outputs], the logits of the pictures in memory, NaN for outputs
    that did not count when they came; wanted: the same of those drawn for a step, where a recorded
    step finds them.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.memory = Reservoir(exp, stream)
        self.size, self.alpha = exp.der_batch or exp.mb_size, exp.der_alpha
        device, outputs = stream.train.x.device, max(stream.head_sizes)
        self.kept = torch.zeros(exp.buffer_size, outputs, device=device)
        most = min(self.size + len(stream.head_sizes), exp.buffer_size)
        self.wanted = torch.zeros(most, outputs, device=device)
        self.asked: list[tuple[int, int, int]] = []  # a part, and which of `wanted` are its own

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, and pictures of the memory whose logits are asked for."""
        self.asked, parts, done = [], list(batch.parts), 0
        places = self.memory.draw(self.size)
        self.wanted[: len(places)] = self.kept[places.to(self.kept.device)]
        for part in self.memory.parts(places, 0.0, batch.current):
            self.asked.append((len(parts), done, done + part.size))
            parts.append(part)
            done += part.size
        return Batch(tuple(parts))

    def loss(self, logits: list[Tensor], labels: list[Tensor], batch: Batch) -> Tensor | None:
        """α times the mean square of the differences."""
        if not self.asked:
            return None
        total = count = logits[0].new_zeros(())
        for part, start, end in self.asked:
            mine = logits[part]
            wanted = self.wanted[start:end, : mine.shape[1]].to(mine.device)
            known = ~wanted.isnan()
            total = total + (mine - wanted.nan_to_num()).square().mul(known).sum()
            count = count + known.sum()
        return self.alpha * total / count

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """Offer the pictures to the memory, every time they come, with what was said of them."""
        places, which = self.memory.offer(batch.current.samples)
        said = logits[0].detach()[which.to(logits[0].device)].to(self.kept.device)
        among = batch.current.outputs or said.shape[1]
        rows = places.to(self.kept.device)
        self.kept[rows] = torch.nan
        self.kept[rows, :among] = said[:, :among]

    def costs(self, engine: Engine) -> Costs:
        """The memory with its logits, and steps that are so much longer."""
        held = self.memory.costs()
        macs = min(self.size, len(self.memory)) * step_macs(engine, self.stream)
        return held._replace(memory=held.memory + self.kept.nbytes, macs=macs)

    def state(self) -> dict[str, Any]:
        """The memory, and the logits."""
        return self.memory.state() | {"kept": self.kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.memory.restore(state)
        self.kept.fill_(torch.nan)  # outputs that there were not
        fill(self.kept, state["kept"])
