"""A part of an MLP as one of its own: some units of every hidden layer, all inputs and outputs.

Where only these units are on, the network computes what the part computes. The part is small, so
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
    into the model by `write_back`. head: the classifier that is the part's own, its bias too; no
    other is copied. None: all classifiers are shared, and their biases, which belong to no unit,
    are the caller's: `biases`, in the order of the heads.
    """

    def __init__(
        self, model: Network, template: Network, units: Tensor, head: int | None = None
    ) -> None:
        self.net, self.head = copy.deepcopy(template), head
        self.shared = list(_pairs(model, self.net, units, head))
        with torch.no_grad():
            for whole, part, where in self.shared:
                part.copy_(whole[where])

    @property
    def biases(self) -> list[Tensor]:
        """The biases of the part's classifiers that are the caller's."""
        if self.head is not None:
            return []
        return [head.bias.detach() for head in self.net.heads if isinstance(head.bias, Tensor)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the part into the model."""
        for whole, part, where in self.shared:
            whole[where] = part


def _pairs(model: Network, part: Network, units: Tensor, head: int | None) -> Iterator[_Shared]:
    """With every parameter goes whatever is attached to it."""
    layers = [
        (block.linear, own.linear) for block, own in zip(model.blocks, part.blocks, strict=True)
    ]
    heads = list(zip(model.heads, part.heads, strict=True))
    layers += heads if head is None else [heads[head]]
    # Every classifier has the same place, so one alone has that of the first.
    for (mine, its), where in zip(layers, places(model, units), strict=False):
        weights, own = Weights.of(mine), Weights.of(its)
        yield _Shared(weights.weight, own.weight, where)
        yield from _attached(mine, its, "weight", where)
        if weights.zero_mask is not None and own.zero_mask is not None:
            yield _Shared(weights.zero_mask, own.zero_mask, where)
        if weights.any_bias is not None and (head is not None or mine not in model.heads):
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
