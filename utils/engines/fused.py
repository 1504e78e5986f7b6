"""The engine for everything that is dense: the reference engine's numbers in fewer passes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.stream import Move, Pictures, Samples, TaskStream
from exps.config import Experiment
from models.network import Network
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.engines.autograd import AutogradEngine
from utils.engines.compiled.rectified import has_places, put_in
from utils.optimizers.momentum import SGD
from utils.system.runtime import has_numba, has_triton

M = TypeVar("M", bound=nn.Module)
Masked = list[tuple[nn.Parameter, Tensor]]


class FusedEngine(AutogradEngine):
    """Trains any network, with a fused optimiser, channels-last convolutions and no masked copies
    of weights. What follows a convolution is one layer: on a GPU with Triton by a kernel, on a CPU
    with numba by compiled loops, which take their pictures channel by channel, as convolutions in
    float32 do on a GPU; there layers few of whose many weights are there are loops as well.

    Weights that a mask holds at zero are zero already; masking their gradient keeps them there.
    """

    name = "dense"
    fused = True
    sparse: Sequence[Any] = ()  # layers that hold their gradient, and what became of their weights

    def __init__(
        self, exp: Experiment, model: Network, stream: TaskStream, device: torch.device
    ) -> None:
        loops = device.type == "cpu" and has_numba()
        kernels = device.type == "cuda" and has_triton(device)
        # Before the optimiser is made, whose memory has the form of the parameters.
        in_order = has_places(model) and (loops or (kernels and exp.precision == "fp32"))
        self.format = torch.contiguous_format if in_order else torch.channels_last
        super().__init__(exp, model.to(memory_format=self.format), stream, device)
        self.masked: Masked = []
        self.net = without_masks(self.model, self.masked)
        if loops:
            from utils.engines.compiled.layers import with_loops

            self.masked = with_loops(self.net, self.masked)
        if kernels:
            from utils.engines.compiled.on_gpu import OnGpu

            put_in(self.net, OnGpu)

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""
        for layer in self.sparse:
            layer.write_back()
        return self._model

    @model.setter
    def model(self, its: Network) -> None:
        self._model = its

    def _update(self) -> None:
        """Step all parameters that have a gradient, and sparse layers by what they have of it."""
        super()._update()
        for layer in self.sparse:
            assert isinstance(self.optimizer, SGD)
            weight = layer.layer.weight
            momenta = self.optimizer.momentum(weight) if self.exp.momentum else None
            layer.descend(momenta, self.optimizer.settings)

    def steps_alone(self) -> None:
        """No method looks at gradients or adds to them: sparse layers need not make them whole."""
        if isinstance(self.optimizer, SGD):
            self.sparse = [module for module in self.net.modules() if hasattr(module, "compact")]
            for layer in self.sparse:
                layer.compact = True

    def _mask_gradients(self) -> None:
        for weight, zero in self.masked:
            if weight.grad is not None:
                weight.grad.masked_fill_(zero, 0)

    def _gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Of every parameter, zero where a mask hides it."""
        zero = dict(self.masked)
        return [
            found.masked_fill(zero[p], 0) if found is not None and p in zero else found
            for p, found in zip(self.parameters, super()._gradients(loss), strict=True)
        ]

    def _inputs(self, pictures: Pictures, samples: Samples, move: Move | None = None) -> Tensor:
        return super()._inputs(pictures, samples, move).contiguous(memory_format=self.format)


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
