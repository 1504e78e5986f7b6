"""The sparse layers, under one name as in nupic.torch.modules.

A model written for nupic.torch runs after changing its imports: nupic.torch.modules becomes
models.sparse, nupic.torch.functions becomes models.functional. docs/extending.md says what is left
out.
"""

from torch.nn import Flatten

from models.k_winners import KWinners, KWinners2d, KWinnersBase, update_boost_strength
from models.sparse_weights import (
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
