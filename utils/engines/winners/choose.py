"""Which units win, by index: the k-winners rule for engines that carry indices instead of zeros."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.engines.winners.compiled import array, loops

FEW = 16  # compiled loops are faster where at most one unit in so many wins
GROUP = 32  # units whose maximum is looked at first when the largest of many are wanted


class Winners(NamedTuple):
    """The units of each sample that are on: unit int64 [batch, n], raw value float32 [batch, n].

    Where ties give one sample more winners than another, the shorter row is padded with units whose
    value is zero, that is, which are off.
    """

    unit: Tensor
    value: Tensor


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row, in falling order, and where they are: [batch, count] each.

    The same as torch.topk, a few times faster where few of many are wanted: the c largest lie
    within the c groups of neighbours that have the largest maxima.
    """
    batch, n = values.shape
    if n % GROUP or count * GROUP * 4 > n:
        top = values.topk(count, 1)
        return top.values, top.indices
    grouped = values.view(batch, n // GROUP, GROUP)
    best = grouped.amax(2).topk(count, 1, sorted=False).indices  # [batch, count]
    kept = grouped.gather(1, best.unsqueeze(2).expand(-1, -1, GROUP)).view(batch, count * GROUP)
    top = kept.topk(count, 1)
    group = best.gather(1, top.indices // GROUP)
    return top.values, group * GROUP + top.indices % GROUP


def choose(values: Tensor, boost: Tensor | None, k: int, *, break_ties: bool = False) -> Winners:
    """k-winners of values [batch, n] as `sparse_syn.functional.kwinners` has them, with ties.

    boost: factors [n] that pick the winners and do not change their values; None for all ones.
    """
    if k == values.shape[1]:
        return Winners(torch.arange(k).expand_as(values), values)
    if loops() is not None and k * FEW <= values.shape[1]:
        unit, value = (
            torch.empty((len(values), k), dtype=torch.int64),
            values.new_empty(len(values), k),
        )
        rank = values.new_ones(values.shape[1]) if boost is None else boost
        if loops().choose(*map(array, (values, rank)), break_ties, *map(array, (unit, value))):
            return Winners(unit, value)
    boosted = values if boost is None else values * boost
    top, index = largest(boosted, k + 1)
    if not break_ties and _tied(top, k):
        return _with_ties(values, boosted, top[:, k - 1 : k])
    index = index[:, :k]
    return Winners(index, top[:, :k] if boost is None else values.gather(1, index))


def choose_among(index: Tensor, values: Tensor, boosted: Tensor, k: int) -> tuple[Winners, Tensor]:
    """The same for a few candidates of each sample: index, values, boosted [batch, candidates].

    Also gives the k-th largest boosted value of each sample [batch].
    """
    top, place = boosted.topk(k + 1, 1)
    if _tied(top, k):
        tied = _with_ties(values, boosted, top[:, k - 1 : k])
        found = Winners(index.gather(1, tied.unit), tied.value)
    else:
        place = place[:, :k]
        found = Winners(index.gather(1, place), values.gather(1, place))
    return found, top[:, k - 1]


def _tied(top: Tensor, k: int) -> bool:
    """Whether in any sample the k-th and next largest [batch, k + 1] are equal."""
    return bool((top[:, k - 1] == top[:, k]).any())


def _with_ties(values: Tensor, boosted: Tensor, threshold: Tensor) -> Winners:
    """All units at or above the threshold [batch, 1] of their row, however many."""
    stay = boosted >= threshold
    most = int(stay.sum(1).max())
    index = boosted.topk(most, 1).indices
    return Winners(index, values.gather(1, index) * stay.gather(1, index))
