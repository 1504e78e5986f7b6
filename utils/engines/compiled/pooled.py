"""Winners among filters, pooled, by compiled loops: of the responses of a position, which are in
the cache, the threshold is found, and what is above it is added to its cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.filters import Pooled
from utils.engines.compiled.kernels import PARTS
from utils.engines.compiled.threads import array, in_parts
from utils.engines.kept import kept

SLACK = np.float32(0.1)  # by which the first guess of a threshold lies below the last one
SPARE = 4  # groups for each of the values that are looked for
ZERO, LOWEST = np.float32(0), np.float32(-np.inf)


def _kernel(function: Any) -> Any:
    return kept(function, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@_kernel
def nth_largest(values: Any, count: int, n: int) -> Any:
    """The n-th largest (from 0) of the first `count` values, whose order is lost."""
    low, high = 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) >> 1], low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return values[n]


@_kernel
def _above(row: Any, least: Any, found: Any) -> int:
    """The values from `least` on, into found; how many there are."""
    count = 0
    for i in range(len(row)):
        found[count] = row[i]
        count += row[i] >= least
    return count


@_kernel
def _bound(row: Any, k: int, found: Any) -> Any:
    """What the largest value that is not among the k largest is not below: the same of the largest
    values of groups."""
    groups = SPARE * (k + 1)
    if len(row) <= groups:
        return LOWEST
    found[:groups] = row[:groups]
    for start in range(groups, len(row), groups):
        some = row[start : start + groups]
        for i in range(len(some)):
            found[i] = some[i] if some[i] > found[i] else found[i]
    return nth_largest(found, groups, k)


@_kernel
def threshold(row: Any, k: int, guess: Any, found: Any) -> Any:
    """The largest value that is not among the k largest; guess: what is likely to be below it."""
    count = _above(row, guess, found)
    if count <= k:  # NaN is counted nowhere
        count = _above(row, _bound(row, k, found), found)
    return nth_largest(found, count, k) if count > k else np.float32(np.nan)


@_kernel
def pool(part: int, r: Any, k: int, share: Any, out: Any) -> None:
    """The pictures of a part: r [n, positions, filters], share [cells, positions] -> out, zeros
    [n, cells, channels], of twice as many channels with the negatives of r; k below 0: all that are
    above 0 win."""
    (n, positions, filters), channels = r.shape, out.shape[2]
    found, sizes = np.empty(filters + 1, np.float32), np.empty(filters, np.float32)
    signs = channels > filters
    # Of values and their negatives the k-th largest is the same of sizes, or a negative of these.
    wins = k if k < filters else channels - 1 - k
    for b in range(n * part // PARTS, n * (part + 1) // PARTS):
        guess = LOWEST
        for p in range(positions):
            row, least = r[b, p], ZERO
            if k >= 0:
                if signs:
                    for i in range(filters):
                        sizes[i] = abs(row[i])
                least = threshold(sizes if signs else row, wins, guess, found)
                guess = least - SLACK * abs(least)
                least = least if k < filters else -least
            for c in range(len(share)):
                if share[c, p] != ZERO:
                    for i in range(filters):
                        out[b, c, i] += share[c, p] * max(row[i] - least, ZERO)
                    for i in range(channels - filters):
                        out[b, c, filters + i] += share[c, p] * max(-row[i] - least, ZERO)


class PooledLoops(nn.Module):
    """`Pooled` in float32, in as many threads as torch has; without gradients."""

    def __init__(self, layer: Pooled) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, responses: Tensor) -> Tensor:
        """[n, filters, positions] -> [n, cells · channels]."""
        r, layer = responses.transpose(1, 2).float().contiguous(), self.layer
        out = torch.zeros(len(r), len(layer.share), layer.channels)
        k = min(layer.k, layer.channels - 1) if layer.k else -1
        in_parts(pool, *(array(r), k, array(layer.share), array(out)))
        return out.flatten(1)
