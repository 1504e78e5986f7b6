"""Synaptic intelligence: what lowered the loss is held where it is (Zenke et al., 2017, "Continual
learning through synaptic intelligence").

The importance of a parameter in a task is the path integral of -gradient · change over its steps,
by how far it has come, Δ² + damping; the loss of later tasks has c · Σ Ω · (θ - θ*)² besides, Ω the
sum of the importances of all tasks, θ* the values after the last.
"""

from __future__ import annotations

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number
from utils.engines.base import Engine, Need
from utils.engines.batch import Part
from utils.methods import anchored
from utils.methods.anchored import Anchored, never_due
from utils.methods.base import Costs
from utils.methods.path_integral import Following

__all__ = ["Method", "contradictions", "never_due"]

KEYS = {
    "update_every": anchored.KEYS["update_every"],
    "si_strength": Key(0.1, Number(0, 1e15), "how strongly earlier values are held (c)"),
    "si_damping": Key(
        0.1,
        Number(0, 1e6, above=True),
        "what the square of how far a parameter came in a task is damped by (ξ)",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why nothing can be held."""
    yield from anchored.contradictions(exp, "si")


class Method(Following, Anchored):
    """Strengths are Ω, and anchors θ*."""

    looks = False

    @property
    def rate(self) -> float:
        """2c: the gradient of the penalty is 2c · Ω · (θ - θ*)."""
        return float(2 * self.exp.si_strength)

    @property
    def needs(self) -> frozenset[Need]:
        """A pull, and the gradient of every parameter in every step."""
        return frozenset({Need.PULL, Need.GRADIENTS})

    @property
    def goes_on(self) -> bool:
        """The path ends where it is consolidated."""
        return bool(self.exp.update_every)

    def consolidate(self, engine: Engine, trained: Part, number: int) -> None:
        """What was needed is important from now on, and stays where it is."""
        self.hold(engine.active, self.importance(engine.active, self.exp.si_damping))
        self.path = None
        self.follow(engine)

    def costs(self, engine: Engine) -> Costs:
        """Three more numbers for every parameter: where it was at first and before the step, and
        the integral, with two of which a step computes."""
        held = super().costs(engine)
        count = held.parameters // 2
        return Costs(parameters=5 * count, macs=4 * count)
