"""A part of an MLP as one of its own: some units of every hidden layer, all inputs and outputs.

Where only these units may win, the network computes what the part computes. The part is small, so
any engine trains it at the cost of its units, and nothing of the others moves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.network import Network
from models.synapses import Weights, Where, beside


class _Shared(NamedTuple):
    """A tensor of the network, and its part: whole[where]."""

    whole: Tensor
    part: Tensor
    where: Where


class Subnet:
    """The part `net` of a model that the units int64 [layers, size] make; `template`: its shape.

    Weights, masks, duty cycles, boost strength and the count of samples are copied in now, and back
    into the model by `write_back`. Biases of the classifiers belong to no unit and are the
    caller's: `biases`, in the order of the heads.
    """

    def __init__(self, model: Network, template: Network, units: Tensor) -> None:
        self.net = copy.deepcopy(template)
        self.shared = list(_pairs(model, self.net, units))
        with torch.no_grad():
            for whole, part, where in self.shared:
                part.copy_(whole[where])

    @property
    def biases(self) -> list[Tensor]:
        """The biases of the part's classifiers."""
        return [head.bias.detach() for head in self.net.heads if isinstance(head.bias, Tensor)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the part into the model."""
        for whole, part, where in self.shared:
            whole[where] = part


def _pairs(model: Network, part: Network, units: Tensor) -> Iterator[_Shared]:
    """With every parameter goes whatever is attached to it."""
    layers = [
        (block.linear, own.linear) for block, own in zip(model.blocks, part.blocks, strict=True)
    ]
    layers += zip(model.heads, part.heads, strict=True)
    for (mine, its), where in zip(layers, places(model, units), strict=True):
        weights, own = Weights.of(mine), Weights.of(its)
        yield _Shared(weights.weight, own.weight, where)
        yield from _attached(mine, its, "weight", where)
        if weights.zero_mask is not None and own.zero_mask is not None:
            yield _Shared(weights.zero_mask, own.zero_mask, where)
        if weights.any_bias is not None and mine not in model.heads:
            rows = where[0].flatten() if isinstance(where[0], Tensor) else where[0]
            yield _Shared(weights.bias, own.bias, (rows,))
            yield from _attached(mine, its, "bias", (rows,))
    for block, own_block, rows in zip(model.blocks, part.blocks, units, strict=True):
        buffers = dict(own_block.activation.named_buffers())
        for name, buffer in block.activation.named_buffers():
            yield _Shared(buffer, buffers[name], (rows,) if buffer.dim() else ())


def _attached(mine: nn.Module, its: nn.Module, parameter: str, where: Where) -> Iterator[_Shared]:
    copies = beside(its, parameter)
    for name, whole in beside(mine, parameter).items():
        yield _Shared(whole, copies[name], where)


def _entries(rows: Tensor, before: Where) -> Where:
    """Where the weights of the units `rows` are; before: where those of the layer before it are."""
    if not before:
        return (rows,)  # from all inputs
    inputs = before[0]
    return rows.unsqueeze(1), inputs.flatten() if isinstance(inputs, Tensor) else inputs


def places(model: Network, units: Tensor) -> list[Where]:
    """Where the weights of the part are that units int64 [layers, size] make: in each hidden layer,
    then in each classifier.
    """
    place: Where = ()
    hidden = [place := _entries(rows, place) for rows in units]
    return hidden + [(slice(None), units[-1])] * len(model.heads)
