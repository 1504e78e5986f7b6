"""A part of an MLP as an MLP of its own: some units of every hidden layer, all inputs and outputs.

Where only these units may win, the network computes what the part computes. The part is small, so
any engine trains it at the cost of its units, and nothing of the others moves.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from models.mlp import MLP
from utils.engine.weights import Place, Weights


class _Shared(NamedTuple):
    """A tensor of the network, and its part: whole[place]."""

    whole: Tensor
    part: Tensor
    place: Place


class Subnet:
    """The part `net` of a model that the units int64 [layers, size] make; `template`: its shape.

    Weights, masks, duty cycles, boost strength and the count of samples are copied in now, and back
    into the model by `write_back`. Biases of the classifiers belong to no unit and are the
    caller's: `biases`, in the order of the heads.
    """

    def __init__(self, model: MLP, template: MLP, units: Tensor) -> None:
        self.net = copy.deepcopy(template)
        self.shared = list(_pairs(model, self.net, units))
        with torch.no_grad():
            for whole, part, place in self.shared:
                part.copy_(whole[place])

    @property
    def biases(self) -> list[Tensor]:
        """The biases of the part's classifiers."""
        return [Weights.of(head).bias.detach() for head in self.net.heads]

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the part into the model."""
        for whole, part, place in self.shared:
            whole[place] = part


def _pairs(model: MLP, part: MLP, units: Tensor) -> list[_Shared]:
    found = []
    place: Place = ()
    for block, own, rows in zip(model.blocks, part.blocks, units, strict=True):
        place = _entries(rows, place)
        mine, its = Weights.of(block.linear), Weights.of(own.linear)
        found += [
            _Shared(mine.weight, its.weight, place),
            _Shared(mine.bias, its.bias, (rows,)),
        ]
        for whole, copied, where in (
            (mine.zero_mask, its.zero_mask, place),
            (mine.used, its.used, place),
            (mine.used_bias, its.used_bias, (rows,)),
        ):
            if whole is not None and copied is not None:
                found.append(_Shared(whole, copied, where))
        buffers = dict(own.activation.named_buffers())
        for name, buffer in block.activation.named_buffers():
            found.append(_Shared(buffer, buffers[name], (rows,) if buffer.dim() else ()))
    columns: Place = (slice(None), units[-1])
    for head, own_head in zip(model.heads, part.heads, strict=True):
        mine, its = Weights.of(head), Weights.of(own_head)
        found.append(_Shared(mine.weight, its.weight, columns))
        if mine.used is not None and its.used is not None:
            found.append(_Shared(mine.used, its.used, columns))
    return found


def _entries(rows: Tensor, before: Place) -> Place:
    """Where the weights of the units `rows` are; before: where those of the layer before it are."""
    if not before:
        return (rows,)  # from all inputs
    inputs = before[0]
    return rows.unsqueeze(1), inputs.flatten() if isinstance(inputs, Tensor) else inputs


def places(model: MLP, units: Tensor) -> list[Place]:
    """Where the weights of the part are that units int64 [layers, size] make: in each hidden layer,
    then in each classifier.
    """
    place: Place = ()
    hidden = [place := _entries(rows, place) for rows in units]
    return hidden + [(slice(None), units[-1])] * len(model.heads)
