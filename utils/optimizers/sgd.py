"""Stochastic gradient descent with momentum and weight decay, and what makes it lazy.

For one weight w with momentum b, a step with gradient g is linear:

    b' = m·b + wd·w + g,    w' = w - lr·b'                        (plain)
    b' = m·b + wd·w + g,    w' = w - lr·(g + wd·w + m·b')         (Nesterov)

that is (w, b)' = M·(w, b) + c·g with a constant 2 x 2 matrix M. In the basis of M's eigenvectors,
scaled so that w = p + q, a step is p' = λ₁·p + e₁·g and q' = λ₂·q + e₂·g. So a weight without a
gradient needs no step of its own: see `utils.engines.winners.lazy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number, Switch

if TYPE_CHECKING:
    from torch import Tensor

    from exps.config import Experiment
    from utils.optimizers.base import Optimizer

KEYS = {
    "momentum": Key(0.9, Number(0, 1, below=True), "momentum; 0: none"),
    "nesterov": Key(True, Switch(), "Nesterov's form of momentum; needs momentum above 0"),
}
LEAST_PULL = 1e-30  # of momentum on a weight; less is as good as none, and slopes stay in range
APART = 1e-3  # eigenvalues closer than twice this share make p and q large, to nearly cancel


def contradictions(exp: Experiment) -> Findings:
    """Why there is no such SGD."""
    if exp.nesterov and exp.momentum == 0:
        yield (
            ("nesterov", "momentum"),
            "nesterov needs momentum; set momentum above 0 or nesterov = false",
        )


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.SGD, or the same arithmetic in one pass."""
    from utils.optimizers import momentum  # torch comes with it, and rules are asked without

    return momentum.made(exp, parameters, fused=fused)


@dataclass(frozen=True)
class Basis:
    """`decay`: M's eigenvalues λ; `gain`: a gradient's shares e; b = slope₁·p + slope₂·q."""

    decay: tuple[float, float]
    gain: tuple[float, float]
    slope: tuple[float, float]

    @property
    def share(self) -> float:
        """How much of a weight without momentum is q."""
        slope1, slope2 = self.slope
        return -slope1 / (slope2 - slope1)

    @staticmethod
    def of(lr: float, momentum: float, weight_decay: float, nesterov: bool) -> Basis | None:
        """The basis for these settings of SGD; None where M has no two different real eigenvalues >
        0.

        Without momentum there is no q: λ₂ = e₂ = 0.
        """
        pull = lr * momentum if nesterov else lr  # how much of b' goes into w'
        wb = -pull * momentum
        if -wb < LEAST_PULL:
            decay = 1 - lr * weight_decay
            return Basis((decay, 0.0), (-lr, 0.0), (0.0, 0.0)) if decay > 0 else None
        ww = 1 - (lr * weight_decay if nesterov else 0) - pull * weight_decay
        cw = -(lr if nesterov else 0) - pull
        mean, det = (ww + momentum) / 2, ww * momentum - wb * weight_decay
        root = mean * mean - det
        if mean <= 0 or det <= 0 or root <= (APART * mean) ** 2:
            return None
        # Without decay a step without gradient leaves weights as they are, to the bit.
        first = mean + math.sqrt(root) if weight_decay else 1.0
        second = det / first  # the smaller root without cancellation
        slope1, slope2 = (first - ww) / wb, (second - ww) / wb
        # gain solves e₁ + e₂ = c_w and slope₁·e₁ + slope₂·e₂ = c_b = 1
        gain2 = (1 - slope1 * cw) / (slope2 - slope1)
        return Basis((first, second), (cw - gain2, gain2), (slope1, slope2))


def basis(exp: Experiment) -> Basis | None:
    """What the lazy engine asks an optimiser for; None, or no such function: it cannot be lazy."""
    return Basis.of(exp.lr, exp.momentum, exp.weight_decay, exp.nesterov)
