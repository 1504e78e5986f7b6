"""What an engine that computes its own gradients needs to know of a layer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from models.k_winners import KWinners
from models.mlp import MLP
from models.sparse_weights import SparseWeightsBase

Place = tuple[Tensor | slice, ...]  # where some of the weights of a layer are


class Weights(NamedTuple):
    """weight float32 [outputs, inputs] (of a convolution: then height and width), bias [outputs],
    zero_mask bool like weight or None; used and used_bias: how old they are, 0 to 1, in their
    shapes, or None (see `old_synapses`).
    """

    weight: Tensor
    bias: Tensor
    zero_mask: Tensor | None
    used: Tensor | None = None
    used_bias: Tensor | None = None

    @staticmethod
    def of(layer: nn.Module) -> Weights:
        """The parameters of a Linear or convolution, or of what masks one. They are shared."""
        mask = layer.zero_mask if isinstance(layer, SparseWeightsBase) else None
        assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
        buffers = dict(layer.named_buffers(recurse=False))
        used = buffers.get("used"), buffers.get("used_bias")
        return Weights(layer.weight, layer.bias, mask, *used)


def k_winners(model: MLP) -> list[KWinners]:
    """The activations that carry indices of winners; those with extra rules are left out."""
    layers = [block.activation for block in model.blocks]
    return [a for a in layers if isinstance(a, KWinners) and not (a.relu or a.break_ties)]
