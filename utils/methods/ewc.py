"""Elastic weight consolidation: parameters that earlier tasks needed are pulled back to where they
were (Kirkpatrick et al., 2017, "Overcoming catastrophic forgetting in neural networks"), and its
online form with one pull for all tasks (Schwarz et al., 2018, "Progress & compress").

After each task the diagonal of the Fisher information says how much a parameter θ was needed; the
loss of later tasks has λ/2 · Σ F · (θ - θ*)² besides. The pulls of several tasks add up to one:
Σ Fₜ·(θ - θₜ) = S·(θ - A) with S = Σ Fₜ and A the mean of the θₜ weighted by Fₜ.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key, When
from exps.kinds import Choice, Number, Switch, Whole
from models.network import Network
from utils.engines.base import Engine
from utils.engines.batch import Part
from utils.methods import anchored
from utils.methods.anchored import Anchored, never_due
from utils.methods.base import draws
from utils.methods.per_picture import mean_over, require_known, slow_convolutions

__all__ = ["Method", "contradictions", "doubts", "empirical", "expected", "never_due"]

KEYS = {
    "update_every": anchored.KEYS["update_every"],
    "ewc_strength": Key(100.0, Number(0, 1e15), "how strongly earlier values are held (λ)"),
    "ewc_fisher": Key(
        "exact",
        Choice(("exact", "empirical", "predicted")),
        "Fisher information: exact: expected over the labels that the network gives a picture; "
        "empirical: of the pictures' own labels; predicted: of the likeliest ones (van de Ven & "
        "Tolias, 2019)",
    ),
    "ewc_pictures": Key(
        0,
        Whole(0, 10_000_000, "pictures"),
        "training pictures that it is measured on each time, drawn from the seed; 0: all of the "
        "task's",
    ),
    "ewc_online": Key(
        False,
        Switch(),
        "one pull, to the newest values (Schwarz et al., 2018), in place of one for every task",
    ),
    "ewc_decay": Key(
        1.0,
        Number(0, 1, above=True),
        "what the strength of the tasks so far is multiplied with after each (γ)",
        When("ewc_online", lambda exp: exp.ewc_online),
    ),
}
DRAW = 5  # sets the draws of pictures apart from whatever else is drawn from the seed


def contradictions(exp: Experiment) -> Findings:
    """Why nothing can be held."""
    yield from anchored.contradictions(exp, "ewc")


def doubts(exp: Experiment) -> Findings:
    """Why it might take long."""
    yield from slow_convolutions(exp, "ewc", "ewc_pictures")


class Method(Anchored):
    """Strengths are S, and anchors A."""

    @property
    def rate(self) -> float:
        """λ, online γλ: the pull is that of γ F (Schwarz et al., 2018)."""
        return float(self.exp.ewc_strength * (self.exp.ewc_decay if self.exp.ewc_online else 1))

    def prepare(self, model: Network) -> None:
        """Nothing is held yet. Raises ModelError for layers whose gradients are not known."""
        require_known(model, self.name)
        super().prepare(model)

    @torch.no_grad()
    def consolidate(self, engine: Engine, trained: Part, number: int) -> None:
        """Measure what these pictures needed, and where the parameters are."""
        exp, model = self.exp, engine.active
        needed = self.fisher(model, trained, number)
        if exp.ewc_online:
            self.hold(model, needed, exp.ewc_decay)
            return
        strength, anchor = self.held(model)
        for p, fisher in needed.items():
            s, a = strength[p].add_(fisher), anchor[p]
            # A + (θ - A)·F/S is the weighted mean with the new value; nothing where S is 0.
            a.add_((p - a) * (fisher / s).nan_to_num_(0.0, 0.0, 0.0))

    def fisher(self, model: Network, trained: Part, number: int) -> dict[Tensor, Tensor]:
        """The diagonal of the Fisher information on training pictures, by parameter; number: sets
        the draw of pictures apart."""
        some = self.exp.ewc_pictures, draws(DRAW, self.exp.seed, number)
        of = FISHERS[self.exp.ewc_fisher]
        return mean_over(model, self.stream, trained, *some, of, squared=True)


def empirical(logits: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """∂ log p(label) / ∂ logits [n, classes], of the pictures' own labels int64 [n]."""
    p = logits.softmax(1)
    yield torch.eye(p.shape[1], device=p.device)[labels] - p


def predicted(logits: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """The same of the likeliest labels."""
    return empirical(logits, logits.argmax(1))


def expected(logits: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """The same for each label, times the root of its probability: its square is the expectation
    over labels."""
    p = logits.softmax(1)
    one = torch.eye(p.shape[1], device=p.device)
    for label in range(p.shape[1]):
        yield p[:, label : label + 1].sqrt() * (one[label] - p)


FISHERS = {"exact": expected, "empirical": empirical, "predicted": predicted}
