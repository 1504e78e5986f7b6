"""Experience replay: every step trains on pictures of a small memory too (Chaudhry et al., 2019,
"On tiny episodic memories in continual learning")."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Choice, Whole
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, memory
from utils.methods.base import Costs, Moment, step_macs
from utils.methods.memory import Reservoir, make_memory

KEYS = {
    "buffer_size": memory.KEYS["buffer_size"],
    "buffer": memory.KEYS["buffer"],
    "buffer_per_class": memory.KEYS["buffer_per_class"],
    "er_batch": Key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "how many of them every step trains on too; 0: as many as mb_size",
    ),
    "er_weight": Key(
        "pictures",
        Choice(("pictures", "tasks")),
        "what the loss on them counts: pictures: every picture the same, of the current task or "
        "not; tasks: all tasks so far the same, and replayed are those of earlier ones (van de Ven "
        "& Tolias, 2019)",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why pictures of earlier tasks cannot be trained on."""
    yield from memory.no_parts(exp, "er")
    yield from memory.too_few(exp)
    if exp.stream != "tasks" and exp.er_weight == "tasks":
        yield (
            ("er_weight", "stream"),
            f"with stream = {exp.stream} the current pictures are not of one task, which could "
            "count as all others do; choose er_weight = pictures",
        )


class Method(base.Method):
    """Adds pictures of the memory to every mini-batch: a part for each head."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.memory = make_memory(exp, stream)
        self.first = False  # whether this is the first epoch of a task, in which a picture is new

    @property
    def size(self) -> int:
        """How many pictures of the memory every step has."""
        return int(self.exp.er_batch or self.exp.mb_size)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, and pictures of the memory."""
        self.first = now.step < now.epoch
        by_task = self.exp.er_weight == "tasks"
        places = self.memory.draw(self.size, now.task if by_task else None)
        if not len(places):
            return batch
        current = batch.current
        share = current.size / (current.size + len(places))
        share = 1 / (now.task + 1) if by_task else share
        more = self.memory.parts(places, 1 - share, current)
        return Batch((current._replace(weight=share * current.weight), *batch.parts[1:], *more))

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """Offer what was new to the memory."""
        if self.first and isinstance(self.memory, Reservoir):
            self.memory.offer(batch.current.samples)

    def end_task(self, engine: Engine, task: int) -> None:
        """Draw pictures of every class of the task."""
        if not isinstance(self.memory, Reservoir):
            self.memory.keep(self.memory.shuffled(self.stream.training[task].train))

    def costs(self, engine: Engine) -> Costs:
        """The memory, and steps that are so much longer."""
        macs = min(self.size, len(self.memory)) * step_macs(engine, self.stream)
        return self.memory.costs()._replace(macs=macs)

    def state(self) -> dict[str, Any]:
        """The memory."""
        return self.memory.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.memory.restore(state)
