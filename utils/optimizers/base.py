"""What an optimiser is to an engine: it steps parameters by their gradients, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from exps.config import Experiment
from exps.messages import Told

MOMENTUM = "momentum"  # what every engine calls it in a state


class Optimizer(Protocol):
    """Steps the parameters that have a gradient; no other moves, and none has state that ages.

    factors: what the updates of some parameters are multiplied with, in their shapes.
    """

    factors: dict[Tensor, Tensor]

    def apply(self, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Step parameters by their gradients, both in the shape of the parameter."""

    def rate(self, share: float) -> None:
        """The next steps have this share of the learning rate."""

    def restart(self) -> None:
        """Begin as if no step had been taken: momentum is zero."""

    def memory(self, parameter: Tensor) -> list[Tensor]:
        """What is remembered of a parameter in its shape, momentum for one: the memory itself."""

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """All that is remembered of it, by name: the memory itself."""

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken."""


class TorchOptimizer:
    """One of torch's optimisers, or one that is written like them, as an `Optimizer`.

    It has to be made of all parameters. All that it remembers are tensors beside a parameter, its
    `state`: groups that change, as by a schedule, are in no checkpoint. Told where it is otherwise.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.factors: dict[Tensor, Tensor] = {}
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.settings = self._settings()

    def rate(self, share: float) -> None:
        """The next steps have this share of the learning rate, of every group."""
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = changed(group["lr"], lr * share)
        self.settings = self._settings()

    def _settings(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        return [{k: v for k, v in group.items() if k != "params"} for group in groups]

    @torch.no_grad()
    def apply(self, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Step parameters by their gradients."""
        before = {p: p.detach().clone() for p, _ in steps if p in self.factors}
        for parameter, gradient in steps:
            parameter.grad = gradient
        self.optimizer.step()
        if self._settings() != self.settings:
            raise Told(
                f"the optimiser {type(self.optimizer).__name__} changes its settings",
                "a checkpoint has what is in its `state` of every parameter, and nothing else",
                "compute what changes from a tensor in that state, such as the step",
            )
        for p, was in before.items():
            # Updates are scaled, not gradients: what divides by the gradient's size, as Adam
            # does, would undo that.
            p.sub_(was).mul_(self.factors[p]).add_(was)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin as if no step had been taken."""
        for state in self.optimizer.state.values():
            for value in _tensors(state).values():
                value.zero_()

    def memory(self, parameter: Tensor) -> list[Tensor]:
        """What is remembered of a parameter in its shape."""
        return [v for v in self.state(parameter).values() if v.shape == parameter.shape]

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """All that is remembered of it, by name."""
        return _tensors(self.optimizer.state.get(parameter, {}))

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken: torch knows which of it belongs where."""
        whole = self.optimizer.state_dict()
        numbers = [n for group in whole["param_groups"] for n in group["params"]]
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        place = next(n for n, p in zip(numbers, order, strict=True) if p is parameter)
        # torch's fused steps take for granted that what is beside a parameter lies as it does.
        whole["state"][place] = {
            name: torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            if value.shape == parameter.shape
            else value.clone()
            for name, value in state.items()
        }
        self.optimizer.load_state_dict(whole)
        for group, settings in zip(self.optimizer.param_groups, self.settings, strict=True):
            for name, value in settings.items():
                if isinstance(value, Tensor):  # a recorded step reads this one
                    group[name] = value.copy_(group[name])


def rate_of(exp: Experiment, parameters: Sequence[Tensor]) -> float | Tensor:
    """The learning rate; where it may change on a GPU, in a tensor, which a recorded step reads."""
    device = parameters[0].device
    return torch.tensor(exp.lr, device=device) if exp.unusual and device.type == "cuda" else exp.lr


def changed(lr: float | Tensor, now: float) -> float | Tensor:
    """Another learning rate; in the same tensor, which a recorded step reads."""
    return lr.fill_(now) if isinstance(lr, Tensor) else now


def _tensors(state: Any) -> dict[str, Tensor]:
    """What is remembered of a parameter. Told for what is no tensor."""
    for name, value in state.items():
        if not isinstance(value, Tensor) and value is not None:
            raise Told(
                f"the optimiser remembers {name!r} as a {type(value).__name__}",
                "a checkpoint has tensors alone of what optimisers remember",
                "make it a tensor",
            )
    return {name: value for name, value in state.items() if value is not None}
