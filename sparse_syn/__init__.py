"""Layers of sparse networks: k-winners, and weights of which a fixed part is zero.

Ahmad & Scheinkman, 2019, https://arxiv.org/abs/1903.11257. They need torch alone. A model written
for nupic.torch runs after changing its imports: nupic.torch.modules becomes sparse_syn,
nupic.torch.functions becomes sparse_syn.functional (docs/layers.md).
"""

from torch.nn import Flatten

from .k_winners import KWinners, KWinners2d, KWinnersBase, update_boost_strength
from .sparse_weights import (
    PrunableSparseWeights,
    PrunableSparseWeights2d,
    SparseWeights,
    SparseWeights2d,
    SparseWeightsBase,
    normalize_sparse_weights,
    rezero_weights,
)

__all__ = [
    "Flatten",
    "KWinners",
    "KWinners2d",
    "KWinnersBase",
    "PrunableSparseWeights",
    "PrunableSparseWeights2d",
    "SparseWeights",
    "SparseWeights2d",
    "SparseWeightsBase",
    "normalize_sparse_weights",
    "rezero_weights",
    "update_boost_strength",
]
