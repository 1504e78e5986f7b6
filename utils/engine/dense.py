"""The engine for everything that is dense: the reference engine's numbers in fewer passes."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks.stream import Pictures, Samples, TaskStream
from exps.config import Experiment
from models.mlp import MLP
from models.sparse_weights import SparseWeightsBase
from utils.engine.reference import ReferenceEngine
from utils.engine.sgd import SGD

M = TypeVar("M", bound=nn.Module)
Masked = list[tuple[nn.Parameter, Tensor]]


class DenseEngine(ReferenceEngine):
    """Trains any model, with fused SGD, channels-last convolutions and no masked copies of weights.

    Weights that a mask holds at zero are zero already; masking their gradient keeps them there.
    """

    name = "dense"

    def __init__(
        self, exp: Experiment, model: MLP, stream: TaskStream, device: torch.device
    ) -> None:
        super().__init__(exp, model.to(memory_format=torch.channels_last), stream, device)
        self.masked: Masked = []
        self.net = without_masks(self.model, self.masked)

    def _begin(self) -> None:
        self.sgd = SGD(self.exp)
        self.parameters = list(self.model.parameters())
        if self.exp.momentum:
            for p in self.parameters:
                self.sgd.momentum(p)  # recorded steps need the memory beforehand

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """Multiply the gradients of these parameters."""
        self.sgd.factors = factors

    def _momenta(self) -> dict[Tensor, Tensor]:
        return {p: self.sgd.momenta[p] for p in self.parameters if p in self.sgd.momenta}

    def _update(self) -> None:
        for weight, zero in self.masked:
            if weight.grad is not None:
                weight.grad.masked_fill_(zero, 0)
        self.sgd.apply([(p, p.grad) for p in self.parameters if p.grad is not None])

    def _batch(self, pictures: Pictures, samples: Samples) -> tuple[Tensor, Tensor]:
        x, labels = super()._batch(pictures, samples)
        return x.contiguous(memory_format=torch.channels_last), labels


def without_masks(module: M, masked: Masked) -> M:
    """The same module, with the layers inside of SparseWeights in their places.

    Parameters and buffers are shared; `masked` is given the weights and masks that were found.
    """
    if not module._modules:
        return module  # with whatever it remembers
    bare = copy.copy(module)
    bare._modules = {}
    for name, child in module._modules.items():
        if isinstance(child, SparseWeightsBase):
            masked.append((child.weight, child.zero_mask))
            bare._modules[name] = child.module
        elif child is not None:
            bare._modules[name] = without_masks(child, masked)
    return bare
