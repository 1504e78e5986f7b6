"""What an engine that computes its own gradients needs to know of a layer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from models.sparse import SparseWeights


class Weights(NamedTuple):
    """weight float32 [outputs, inputs], bias [outputs], zero_mask bool like weight or None."""

    weight: Tensor
    bias: Tensor
    zero_mask: Tensor | None

    @staticmethod
    def of(layer: nn.Module) -> Weights:
        """The parameters of a Linear, or of a SparseWeights around one. They are shared."""
        mask = layer.zero_mask if isinstance(layer, SparseWeights) else None
        assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
        return Weights(layer.weight, layer.bias, mask)
