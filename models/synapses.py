"""The layers of a network with weights, and whatever is shaped like them.

A method that remembers something of every parameter attaches it to the network: a buffer beside the
parameter, which is copied, moved, saved and cut into parts together with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.network import Network
from sparse_syn.k_winners import KWinners
from sparse_syn.sparse_weights import SparseWeightsBase

Where = tuple[Tensor | slice, ...]  # where some of the weights of a layer are


class Weights(NamedTuple):
    """weight float32 [outputs, inputs] (of a convolution: then height and width), any_bias
    [outputs] or None, zero_mask bool like weight or None. They are shared with the layer.
    """

    weight: Tensor
    any_bias: Tensor | None
    zero_mask: Tensor | None

    @property
    def bias(self) -> Tensor:
        """The bias of a layer that has one."""
        assert self.any_bias is not None, "a layer without bias"
        return self.any_bias

    @staticmethod
    def of(layer: nn.Module) -> Weights:
        """The parameters of a Linear or convolution, or of what masks one."""
        mask = layer.zero_mask if isinstance(layer, SparseWeightsBase) else None
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        return Weights(weight, bias, mask)


def fully_connected(model: Network) -> list[Weights]:
    """The fully connected hidden layers, then the classifiers."""
    return [Weights.of(layer) for layer in (*(b.linear for b in model.blocks), *model.heads)]


def winner_layers(model: Network) -> list[KWinners]:
    """The activations that carry indices of winners; those with extra rules are left out."""
    layers = [block.activation for block in model.blocks]
    return [a for a in layers if isinstance(a, KWinners) and not (a.relu or a.break_ties)]


def attach(model: Network, name: str) -> None:
    """Give every parameter a buffer of zeros in its shape, to be found by `attached`."""
    for module in model.modules():
        for parameter, value in list(module.named_parameters(recurse=False)):
            module.register_buffer(
                f"{name}_{parameter}", torch.zeros_like(value.detach(), dtype=torch.float32)
            )


def attached(model: Network, name: str) -> dict[Tensor, Tensor]:
    """What `attach` gave the parameters, by parameter; {} where it gave nothing."""
    found: dict[Tensor, Tensor] = {}
    for module in model.modules():
        buffers = dict(module.named_buffers(recurse=False))
        for parameter, value in module.named_parameters(recurse=False):
            if f"{name}_{parameter}" in buffers:
                found[value] = buffers[f"{name}_{parameter}"]
    return found


def beside(layer: nn.Module, parameter: str) -> dict[str, Tensor]:
    """Everything attached to a parameter of a layer (or of what it masks), by the buffer's name."""
    inner = layer.module if isinstance(layer, SparseWeightsBase) else layer
    assert isinstance(inner, nn.Module)
    buffers = inner.named_buffers(recurse=False)
    return {name: buffer for name, buffer in buffers if name.endswith(f"_{parameter}")}
