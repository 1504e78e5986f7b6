"""Learning without forgetting: on the pictures of a new task the network is to say what it said
before it (Li & Hoiem, 2016, "Learning without forgetting").

Per earlier head where tasks have their own; where they share one, over its outputs that earlier
tasks have trained: all of them, or with `outputs = seen` those of their classes. What it said is
tabled when the task begins, so no second network is kept.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Choice, Number, Switch
from utils.engines.base import Engine
from utils.engines.batch import Batch, Part
from utils.methods import base, memory
from utils.methods.base import Costs, Moment
from utils.methods.distill import TEMPERATURE, distillation, earlier_heads, table

KEYS = {
    "lwf_weight": Key(
        "fixed",
        Choice(("fixed", "tasks")),
        "what distillation counts: fixed: lwf_strength beside 1 for the new task; tasks: "
        "lwf_strength · (1 - 1/n) beside 1/n for task n (van de Ven & Tolias, 2019)",
    ),
    "lwf_strength": Key(
        1.0,
        Number(0, 1e6),
        "how much distillation counts beside the new task (λ)",
    ),
    "lwf_temperature": Key(
        TEMPERATURE, Number(0, 1000, above=True), "what logits are divided by for it (T)"
    ),
    "lwf_scaled": Key(
        True,
        Switch(),
        "whether it counts T² times as much, so that its gradients do not shrink with T (Hinton et "
        "al., 2015); the public code of van de Ven & Tolias leaves that out today",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why there is nothing to be kept."""
    yield from memory.no_parts(exp, "lwf")
    if exp.stream != "tasks" and not exp.facts.split:
        yield (
            ("stream", "methods", "benchmark"),
            "lwf notes what was said of a picture, which with all classes in every task, and "
            f"stream = {exp.stream}, comes in several views at a time; choose stream = tasks",
        )


class Method(base.Method):
    """said: what each earlier head said of the pictures of the task, by head: see `table`."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.task, self.said = 0, dict[int, Tensor]()
        self.by_task = exp.lwf_weight == "tasks"
        self.strength = exp.lwf_strength
        self.temperature = exp.lwf_temperature
        self.scale = self.temperature**2 if exp.lwf_scaled else 1.0
        self.parts: dict[int, int] = {}  # where in the mini-batch its pictures are for a head

    def begin_task(self, engine: Engine, task: int) -> None:
        """Note what is said of the pictures of the task before it is trained."""
        self.task, train = task, self.stream.training[task].train
        self.said = {
            head: table(engine, self.stream, train, head, outputs)
            for head, outputs in earlier_heads(self.stream, task).items()
        }

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, seen by the earlier heads too."""
        if not self.said:
            return batch
        current = batch.current
        share = 1 / (self.task + 1) if self.by_task else 1.0
        parts = [current._replace(weight=share * current.weight), *batch.parts[1:]]
        self.parts = {}
        for head in self.said:
            self.parts[head] = 0 if head == current.head else len(parts)
            if head != current.head:
                parts.append(Part(current.samples, head, 0.0))
        return Batch(tuple(parts))

    def loss(self, logits: list[Tensor], labels: list[Tensor], batch: Batch) -> Tensor | None:
        """The mean over earlier heads of how far they are from what they said."""
        if not self.said:
            return None
        strength = self.strength * (1 - 1 / (self.task + 1) if self.by_task else 1.0)
        total = logits[0].new_zeros(())
        for head, said in self.said.items():
            part = batch.parts[self.parts[head]]
            teacher = said[part.samples.rows.to(said.device)]
            mine = logits[self.parts[head]]
            total = total + distillation(mine, teacher, part.outputs, self.temperature)
        return total * (strength * self.scale / len(self.said))

    def costs(self, engine: Engine) -> Costs:
        """The table, and the other heads."""
        bytes_ = sum(said.nbytes for said in self.said.values())
        others = [head for head in self.said if head != self.stream.training[self.task].head]
        outputs = sum(self.stream.head_sizes[head] for head in others)
        return Costs(memory=bytes_, macs=3 * self.exp.mb_size * engine.units * outputs)

    def state(self) -> dict[str, Any]:
        """The table."""
        said = {str(head): said for head, said in self.said.items()}
        return {"task": self.task, "said": said}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.task = state["task"]
        self.said = {int(head): said for head, said in state["said"].items()}

    def resume(self, engine: Engine) -> None:
        """The table belongs where the network is."""
        self.said = {head: said.to(engine.device) for head, said in self.said.items()}
