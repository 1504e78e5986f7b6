"""Which units win, by index: the k-winners rule for engines that carry indices instead of zeros."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.engines.winners.compiled import array, loops

FEW = 16  # compiled loops are faster where at most one unit in so many wins


class Winners(NamedTuple):
    """The units of each sample that are on: unit int64 [batch, n], raw value float32 [batch, n].

    Where ties give one sample more winners than another, the shorter row is padded with units whose
    value is zero, that is, which are off.
    """

    unit: Tensor
    value: Tensor


def choose(values: Tensor, boost: Tensor | None, k: int, *, break_ties: bool = False) -> Winners:
    """k-winners of values [batch, n] as `sparse_syn.functional.kwinners` has them, with ties.

    boost: factors [n] that pick the winners and do not change their values; None for all ones.
    """
    if k == values.shape[1]:
        return Winners(torch.arange(k).expand_as(values), values)
    if k * FEW <= values.shape[1]:
        unit, value = (
            torch.empty((len(values), k), dtype=torch.int64),
            values.new_empty(len(values), k),
        )
        rank = values.new_ones(values.shape[1]) if boost is None else boost
        if loops().choose(*map(array, (values, rank)), break_ties, *map(array, (unit, value))):
            return Winners(unit, value)
    boosted = values if boost is None else values * boost
    top, index = boosted.topk(k + 1, 1)
    if not break_ties and bool((top[:, k - 1] == top[:, k]).any()):
        return _with_ties(values, boosted, top[:, k - 1 : k])
    index = index[:, :k]
    return Winners(index, top[:, :k] if boost is None else values.gather(1, index))


def _with_ties(values: Tensor, boosted: Tensor, threshold: Tensor) -> Winners:
    """All units at or above the threshold [batch, 1] of their row, however many."""
    stay = boosted >= threshold
    most = int(stay.sum(1).max())
    index = boosted.topk(most, 1).indices
    return Winners(index, values.gather(1, index) * stay.gather(1, index))
