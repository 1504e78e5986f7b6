"""Memory-aware synapses: what the outputs are sensitive to is held where it is (Aljundi et al.,
2018, "Memory aware synapses: learning what (not) to forget").

The importance of a parameter in a task is the mean over pictures of |∂ ‖f‖² / ∂θ|, f the logits; no
label is needed. The loss of later tasks has λ · Σ Ω · (θ - θ*)² besides, Ω the sum of the
importances of all tasks, θ* the values after the last.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number, Whole
from models.network import Network
from utils.engines.base import Engine
from utils.engines.batch import Part
from utils.methods import anchored
from utils.methods.anchored import Anchored, never_due
from utils.methods.base import draws
from utils.methods.per_picture import mean_over, require_known, slow_convolutions

__all__ = ["Method", "contradictions", "doubts", "never_due"]

KEYS = {
    "update_every": anchored.KEYS["update_every"],
    "mas_strength": Key(1.0, Number(0, 1e15), "how strongly earlier values are held (λ)"),
    "mas_pictures": Key(
        0,
        Whole(0, 10_000_000, "pictures"),
        "training pictures that importance is measured on each time, drawn from the seed; 0: all "
        "of the task's",
    ),
}
DRAW = 9  # sets the draws of pictures apart from whatever else is drawn from the seed


def contradictions(exp: Experiment) -> Findings:
    """Why nothing can be held."""
    yield from anchored.contradictions(exp, "mas")


def doubts(exp: Experiment) -> Findings:
    """Why it might take long."""
    yield from slow_convolutions(exp, "mas", "mas_pictures")


class Method(Anchored):
    """Strengths are Ω, and anchors θ*."""

    @property
    def rate(self) -> float:
        """2λ: the gradient of the penalty is 2λ · Ω · (θ - θ*)."""
        return float(2 * self.exp.mas_strength)

    def prepare(self, model: Network) -> None:
        """Nothing is held yet. Raises ModelError for layers whose gradients are not known."""
        require_known(model, self.name)
        super().prepare(model)

    def consolidate(self, engine: Engine, trained: Part, number: int) -> None:
        """What the outputs are sensitive to is important from now on, and stays where it is."""
        model = engine.active
        some = self.exp.mas_pictures, draws(DRAW, self.exp.seed, number)
        self.hold(
            model, mean_over(model, self.stream, trained, *some, squared_length, squared=False)
        )


def squared_length(logits: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """∂ ‖f‖² / ∂f."""
    yield 2 * logits
