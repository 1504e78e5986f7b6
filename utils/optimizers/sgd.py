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
from typing import Any

import torch
from torch import Tensor

from exps.config import Experiment
from utils.optimizers.base import MOMENTUM, Optimizer, TorchOptimizer

LEAST_PULL = 1e-30  # of momentum on a weight; less is as good as none, and slopes stay in range
APART = 1e-3  # eigenvalues closer than twice this share make p and q large, to nearly cancel


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.SGD, or the same arithmetic in one pass."""
    if fused:
        sgd = SGD(exp)
        if exp.momentum:
            for p in parameters:
                sgd.momentum(p)  # recorded steps need the memory beforehand
        return sgd
    optimizer = torch.optim.SGD(
        parameters,
        lr=exp.lr,
        momentum=exp.momentum,
        nesterov=exp.nesterov,
        weight_decay=exp.weight_decay,
    )
    if exp.momentum:  # from zero, as torch's first step does it
        for p in parameters:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return _Plain(optimizer)


class _Plain(TorchOptimizer):
    """torch's SGD. A step is linear in the gradient, so to scale an update that is without decay
    and began with zero momentum is to scale the gradient, at a third of the memory traffic."""

    def apply(self, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Step parameters by their gradients."""
        for parameter, gradient in steps:
            if parameter in self.factors:
                gradient.mul_(self.factors[parameter])
            parameter.grad = gradient
        self.optimizer.step()

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The momentum of a parameter, if it has any."""
        momentum = super().state(parameter).get("momentum_buffer")
        return {} if momentum is None else {MOMENTUM: momentum}

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken."""
        momentum = state[MOMENTUM].to(parameter.device, copy=True)
        self.optimizer.state[parameter]["momentum_buffer"] = momentum


class SGD:
    """The arithmetic of torch.optim.SGD, fused, without its bookkeeping and its time to load.

    Either on gradients that are kept and written in place (`gradient`, then `step`), or on those
    given to `apply`. factors: as in `Optimizer`; gradients are multiplied with them, see `_Plain`.
    """

    def __init__(self, exp: Experiment) -> None:
        self.settings: dict[str, Any] = {
            "lr": exp.lr,
            "momentum": exp.momentum,
            "weight_decay": exp.weight_decay,
            "dampening": 0.0,
            "nesterov": exp.nesterov,
            "maximize": False,
            "is_first_step": False,
        }
        self.gradients: dict[Tensor, Tensor] = {}
        self.momenta: dict[Tensor, Tensor] = {}
        self.factors: dict[Tensor, Tensor] = {}
        self.due: list[Tensor] = []

    def gradient(self, parameter: Tensor) -> Tensor:
        """The gradient to be filled in for the next step, in the parameter's shape."""
        if parameter not in self.gradients:
            self.gradients[parameter] = torch.zeros_like(parameter)
        self.due.append(parameter)
        return self.gradients[parameter]

    def momentum(self, parameter: Tensor) -> Tensor:
        """The momentum of a parameter, in its shape; to be written to if it is to be another."""
        if parameter not in self.momenta:
            self.momenta[parameter] = torch.zeros_like(parameter)
        return self.momenta[parameter]

    def restart(self) -> None:
        """Momentum starts from zero."""
        for momentum in self.momenta.values():
            momentum.zero_()

    def memory(self, parameter: Tensor) -> list[Tensor]:
        """The momentum of a parameter, if it has any."""
        return [self.momenta[parameter]] if parameter in self.momenta else []

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The same by name."""
        return {MOMENTUM: self.momenta[parameter]} if parameter in self.momenta else {}

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken."""
        for momentum in state.values():
            self.momentum(parameter).copy_(momentum)

    def step(self) -> None:
        """Step all parameters that `gradient` was asked for."""
        self.apply([(p, self.gradients[p]) for p in self.due])
        self.due.clear()

    @torch.no_grad()
    def apply(self, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Step parameters by their gradients."""
        parameters = [p for p, _ in steps]
        momenta = [self.momentum(p) for p in parameters] if self.settings["momentum"] else []
        gradients = [g.mul_(self.factors[p]) if p in self.factors else g for p, g in steps]
        torch._fused_sgd_(parameters, gradients, momenta, **self.settings)


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
