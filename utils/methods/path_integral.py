"""The path integral of a task: how much each parameter has lowered the loss (Zenke et al., 2017,
"Continual learning through synaptic intelligence").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from models.network import Network
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.engines import passes
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base

DAMPING = 1e-3  # what the square of a parameter's way is damped by


class PathIntegral:
    """Sums up -gradient · change over the steps; the gradient is that of the optimiser."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.origin = [p.detach().clone() for p in self.parameters]
        self.before = [p.detach().clone() for p in self.parameters]
        self.total = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    def add(self) -> None:
        """Count a step that was just taken: its gradients are still there."""
        for p, before, total in zip(self.parameters, self.before, self.total, strict=True):
            passes.follow(p, before, total)

    @torch.no_grad()
    def importance(self, damping: float = DAMPING) -> dict[Tensor, Tensor]:
        """The integral over how far the parameter has come, at least 0, by parameter, whatever a
        mask hides."""
        parts = zip(self.parameters, self.origin, self.total, strict=True)
        return {p: total.clamp(min=0) / ((p - o) ** 2 + damping) for p, o, total in parts}

    def state(self) -> dict[str, list[Tensor]]:
        """All of it; the memory itself."""
        return {"origin": self.origin, "before": self.before, "total": self.total}

    @torch.no_grad()
    def restore(self, state: dict[str, list[Tensor]]) -> None:
        """Continue where `state` was taken; outputs that came since begin here."""
        for name, tensors in self.state().items():
            for mine, saved in zip(tensors, state[name], strict=True):
                base.fill(mine, saved)


class Following(base.Method):
    """Has the path integral of the task that is trained as `path`, in checkpoints too; it needs
    Need.GRADIENTS. follows: whether it does."""

    follows = True
    path: PathIntegral | None = None
    saved: dict[str, Any] | None = None  # a path, until there is an engine

    @property
    def goes_on(self) -> bool:
        """Whether a task that begins leaves the path as it is."""
        return False

    def begin_task(self, engine: Engine, task: int) -> None:
        """Begin to follow; what a checkpoint had was of the task before."""
        super().begin_task(engine, task)
        if not self.goes_on:
            self.path = self.saved = None
        self.follow(engine)

    def follow(self, engine: Engine) -> None:
        """From here, or from where a checkpoint was, if nothing is followed."""
        if self.follows and (self.saved or self.path is None):
            self.path = PathIntegral(engine.active.parameters())
            if self.saved:
                self.path.restore(self.saved)
            self.saved = None

    def after_step(self, engine: Engine, batch: Batch, logits: list[Tensor]) -> None:
        """Count the step."""
        if self.path is not None:
            self.path.add()
        super().after_step(engine, batch, logits)

    def importance(self, model: Network, damping: float = DAMPING) -> dict[Tensor, Tensor]:
        """That of the path through this network; zero for synapses that were there and went."""
        assert self.path is not None
        found = self.path.importance(damping)
        for layer in model.modules():
            if isinstance(layer, SparseWeightsBase):
                found[layer.weight].masked_fill_(layer.zero_mask, 0)
        return found

    def state(self) -> dict[str, Any]:
        """The path integral."""
        return super().state() | ({} if self.path is None else self.path.state())

    def restore(self, state: dict[str, Any]) -> None:
        """The path is of parameters that come with the engine: see `resume`."""
        super().restore(state)
        self.saved = state if "origin" in state else None

    def resume(self, engine: Engine) -> None:
        """Follow on."""
        super().resume(engine)
        self.follow(engine)
