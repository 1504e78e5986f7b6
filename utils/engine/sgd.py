"""torch's fused SGD on parameters whose gradients an engine computes itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exps.config import Experiment


class SGD:
    """One fused step for the parameters that were given a gradient since the last one.

    The same arithmetic as torch.optim.SGD, on gradients that are kept and written in place.
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
        self.state: dict[Tensor, tuple[Tensor, Tensor]] = {}  # parameter: gradient, momentum
        self.due: list[Tensor] = []

    def gradient(self, parameter: Tensor) -> Tensor:
        """The gradient to be filled in for the next step, in the parameter's shape."""
        self.momentum(parameter)
        self.due.append(parameter)
        return self.state[parameter][0]

    def momentum(self, parameter: Tensor) -> Tensor:
        """The momentum of a parameter, in its shape; to be written to if it is to be another."""
        if parameter not in self.state:
            self.state[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return self.state[parameter][1]

    @torch.no_grad()
    def step(self) -> None:
        """Step all parameters that `gradient` was asked for."""
        gradients = [self.state[p][0] for p in self.due]
        momenta = [self.state[p][1] for p in self.due] if self.settings["momentum"] else []
        torch._fused_sgd_(self.due, gradients, momenta, **self.settings)
        self.due.clear()
