"""Parameters that are pulled back to where earlier tasks left them, each by its own strength: what
elastic weight consolidation, synaptic intelligence and memory-aware synapses have in common.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from models.network import Network
from models.synapses import attach, attached
from utils.engines.base import Engine, Need, Spring
from utils.methods import base
from utils.methods.base import Costs


def not_sparse(exp: Experiment, method: str) -> Findings:
    """Why nothing can be held by the sparse engine."""
    if exp.engine == "sparse":
        yield (
            ("engine", "methods"),
            f"{method} pulls every weight in every step, and engine = sparse touches few; choose "
            "engine = auto",
        )


class Anchored(base.Method):
    """Holds two numbers beside every parameter θ: its strength S and its anchor A. The gradient of
    the loss has `rate` · S · (θ - A) besides.
    """

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
        if any(s.any() for s in strength.values()):
            springs = {p: Spring(rate * s, anchor[p]) for p, s in strength.items()}
            engine.pull(self.name, springs)

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
        """Two numbers for every parameter, with each of which a step computes once."""
        count = 2 * sum(p.numel() for p in engine.model.parameters())
        return Costs(parameters=count, macs=count)
