"""torch's fused SGD on parameters whose gradients an engine computes itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exps.config import Experiment


class SGD:
    """The arithmetic of torch.optim.SGD, fused, without its bookkeeping and its time to load.

    Either on gradients that are kept and written in place (`gradient`, then `step`), or on those
    given to `apply`. Only what has a gradient is touched. factors: what the gradients of some
    parameters are multiplied with, in their shapes.
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
