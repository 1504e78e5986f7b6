"""Parameters that are pulled back to where earlier tasks left them, each by its own strength: what
elastic weight consolidation, synaptic intelligence and memory-aware synapses have in common.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from exps.facts import Findings, Layer
from exps.keys import Key
from exps.kinds import Whole
from models.network import Network
from models.synapses import attach, attached
from utils.engines.base import Engine, Need, Spring
from utils.engines.batch import Batch, Part
from utils.methods import base
from utils.methods.base import Costs

KEYS = {
    "update_every": Key(
        0,
        Whole(0, 100_000_000, "steps"),
        "measure what was needed, and hold it, after so many steps each, on the pictures of these "
        "steps, wherever tasks begin and end (van de Ven et al., 2022); 0: after every task, on its"
        " pictures",
    ),
}


def contradictions(exp: Experiment, method: str) -> Findings:
    """Why nothing can be held by the sparse engine, or not without boundaries."""
    if exp.update_every == 1:
        yield (
            ("update_every",),
            "what is held in every step is held where it is, and so not at all; choose 2 or more",
        )
    if exp.update_every and exp.scenario == "task":
        yield (
            ("update_every", "scenario"),
            "with scenario = task a mini-batch says which task it is of, and so where tasks end; "
            "choose update_every = 0, or scenario = domain or class",
        )
    for name in exp.parts if exp.update_every else ():
        yield (
            ("update_every", "methods", "context"),
            f"with {name} a task trains units of its own, and {method} has to hold them when it "
            "ends; choose update_every = 0",
        )
    if exp.engine == "sparse":
        yield (
            ("engine", "methods"),
            f"{method} pulls every weight in every step, and engine = sparse touches few; choose "
            "engine = auto",
        )


def never_due(exp: Experiment, tasks: list[tuple[int, int]], layers: list[Layer]) -> Findings:
    """Why nothing is ever held."""
    total = sum(steps for _, steps in tasks)
    if exp.update_every >= total > 0:
        yield (
            ("update_every",),
            f"the run has {total:,} steps, so nothing is held in any of them",
        )


class Anchored(base.Method):
    """Holds two numbers beside every parameter θ: its strength S and its anchor A. The gradient of
    the loss has `rate` · S · (θ - A) besides. With update_every, `since` are the pictures of the
    `steps` since the last of so many `updates`, if it `looks` at pictures.
    """

    looks = True

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.since, self.steps, self.updates = list[Samples](), 0, 0

    @property
    def rate(self) -> float:
        """What all strengths are multiplied with."""
        raise NotImplementedError

    @property
    def needs(self) -> frozenset[Need]:
        """A pull."""
        return frozenset({Need.PULL})

    def prepare(self, model: Network) -> None:
        """Nothing is held yet."""
        attach(model, f"{self.name}_strength")
        attach(model, f"{self.name}_anchor")

    def consolidate(self, engine: Engine, trained: Part, number: int) -> None:
        """Hold what these training pictures needed, for the time with this number, from 0 on."""
        raise NotImplementedError

    def end_task(self, engine: Engine, task: int) -> None:
        """Hold what the task needed."""
        if not self.exp.update_every:
            self.consolidate(engine, Part.of(self.stream.training[task]), task)

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """Hold what was needed if it is time."""
        super().after_step(engine, batch, logits)
        if not self.exp.update_every:
            return
        if self.looks:
            self.since.append(batch.current.samples)
        self.steps += 1
        if self.steps == self.exp.update_every:
            some = Samples.joined(self.since) if self.looks else batch.current.samples
            self.consolidate(engine, batch.current._replace(samples=some), self.updates)
            self.since, self.steps, self.updates = [], 0, self.updates + 1
            self._pull(engine)

    def state(self) -> dict[str, Any]:
        """With update_every the pictures since the last time."""
        if not self.exp.update_every:
            return super().state()
        mine: dict[str, Any] = {"steps": self.steps, "updates": self.updates}
        if self.since:
            joined = Samples.joined(self.since)
            mine |= {"rows": joined.rows, "views": joined.view}
        return super().state() | mine

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        super().restore(state)
        if self.exp.update_every:
            self.steps, self.updates = state["steps"], state["updates"]
            device = self.stream.train.x.device
            found = [state[name].to(device) for name in ("rows", "views") if name in state]
            self.since = [Samples(*found)] if found else []

    def begin_task(self, engine: Engine, task: int) -> None:
        """Pull from now on."""
        super().begin_task(engine, task)
        self._pull(engine)

    def resume(self, engine: Engine) -> None:
        """Pull on."""
        super().resume(engine)
        self._pull(engine)

    def _pull(self, engine: Engine) -> None:
        rate, (strength, anchor) = self.rate, self.held(engine.active)
        # With patience the network may go back to before anything was held: then nothing pulls.
        held = strength if any(s.any() for s in strength.values()) else {}
        engine.pull(self.name, {p: Spring(rate * s, anchor[p]) for p, s in held.items()})

    def held(self, model: Network) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
        """Strength and anchor of every parameter; the memory itself."""
        names = f"{self.name}_strength", f"{self.name}_anchor"
        return attached(model, names[0]), attached(model, names[1])

    @torch.no_grad()
    def hold(self, model: Network, more: dict[Tensor, Tensor], decay: float = 1.0) -> None:
        """Add to the strengths, those so far multiplied with decay, and move all anchors here."""
        strength, anchor = self.held(model)
        for p, s in strength.items():
            s.mul_(decay)
            if p in more:
                s.add_(more[p])
            anchor[p].copy_(p)

    def costs(self, engine: Engine) -> Costs:
        """Two numbers for every parameter, with each of which of those that are trained a step
        computes once, and the pictures since the last update."""
        held, computed = (
            2 * sum(p.numel() for p in net.parameters()) for net in (engine.model, engine.active)
        )
        kept = sum(map(len, self.since))
        return Costs(parameters=held, pictures=kept, memory=16 * kept, macs=computed)
