"""The arithmetic of SGD with momentum: torch's, the same in one pass, and that of `sgd_lazy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from exps.config import Experiment
from utils.optimizers.base import MOMENTUM, Optimizer, TorchOptimizer, changed, rate_of


def made(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.SGD, or the same arithmetic in one pass."""
    if fused:
        sgd = SGD(exp)
        sgd.settings["lr"] = rate_of(exp, parameters)
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
    return Plain(_from_zero(optimizer, exp, parameters))


def made_lazy(exp: Experiment, parameters: Sequence[Tensor]) -> Optimizer:
    """`Lazy` with the keys of an experiment."""
    settings = {
        "lr": rate_of(exp, parameters),
        "momentum": exp.momentum,
        "nesterov": exp.nesterov,
        "decay": exp.weight_decay,
    }
    return TorchOptimizer(_from_zero(Lazy(parameters, settings), exp, parameters))


def _from_zero(
    optimizer: torch.optim.Optimizer, exp: Experiment, parameters: Sequence[Tensor]
) -> torch.optim.Optimizer:
    """Momentum that is zero, as torch's first step makes it: recorded steps need it beforehand."""
    for p in parameters if exp.momentum else ():
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


class Lazy(torch.optim.Optimizer):
    """b' = m·b + wd·w + g and w' = w - lr·b', or with Nesterov w' = w - lr·(g + wd·w + m·b'), for
    weights whose gradient g is not 0. Of the others both stay."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient."""
        for group in self.param_groups:
            momentum = group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                rests = p.grad == 0
                by = p.grad.add(p, alpha=group["decay"])
                if momentum:
                    b = self.state[p]["momentum_buffer"]
                    b.copy_(torch.where(rests, b, by.add(b, alpha=momentum)))
                    by = by.add(b, alpha=momentum) if group["nesterov"] else b.clone()
                p.sub_(by.masked_fill_(rests, 0) * group["lr"])


class Plain(TorchOptimizer):
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
    given to `apply`. factors: as in `Optimizer`; gradients are multiplied with them, see `Plain`.
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
        self.lr = exp.lr
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

    def rate(self, share: float) -> None:
        """The next steps have this share of the learning rate."""
        self.settings["lr"] = changed(self.settings["lr"], self.lr * share)

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
