"""k-winners: pure functions, the reference for every faster version.

Ahmad & Scheinkman, 2019, "How Can We Be So Dense? The Benefits of Using Highly Sparse
Representations", https://arxiv.org/abs/1903.11257. Names and argument order are nupic.torch's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

COUNTED = 2**22  # batches, of which float32 still tells one


def kwinners(
    x: Tensor,
    duty_cycles: Tensor,
    k: int,
    boost_strength: float | Tensor,
    break_ties: bool = False,
    relu: bool = False,
    inplace: bool = False,
) -> Tensor:
    """x [..., n] with all but the k largest boosted values of each sample set to zero.

    duty_cycles [n] only pick the winners, through `boost_activations`; the raw x of a winner passes
    through, and so does its gradient. Every unit that reaches the k-th largest value wins, more
    than k when values tie; with break_ties exactly k do, and so they do for x of less precision
    than float32, where ties are no chance. With relu a winner also needs a boosted value that is
    not below zero (where ties are broken: above zero). inplace overwrites x. Raises ValueError
    unless 0 <= k <= n, and for another shape.
    """
    require_units(x, duty_cycles)
    values = boost_activations(x, duty_cycles, boost_strength)
    losers = _losers(values, k, -1, break_ties or is_coarse(x), relu)
    return _silence(x, losers, inplace)


def kwinners2d(
    x: Tensor,
    duty_cycles: Tensor,
    k: int,
    boost_strength: float | Tensor,
    local: bool = True,
    break_ties: bool = False,
    relu: bool = False,
    inplace: bool = False,
) -> Tensor:
    """`kwinners` for x [batch, channels, height, width] or one picture [channels, height, width].

    duty_cycles: [1, channels, 1, 1]; local: k channels win at each position; otherwise k of all
    values of a sample win.
    """
    require_pictures(x, duty_cycles)
    values = boost_activations(x, duty_cycles.reshape(-1, 1, 1), boost_strength)
    # Who competes: [batch, channels, height, width] or [batch, channels * height * width].
    values, dim = (values, -3) if local else (values.flatten(-3), -1)
    losers = _losers(values, k, dim, break_ties or is_coarse(x), relu).view(x.shape)
    return _silence(x, losers, inplace)


@torch.no_grad()
def boost_activations(x: Tensor, duty_cycles: Tensor, boost_strength: float | Tensor) -> Tensor:
    """x * exp(-boost_strength * duty_cycles): units that won seldom get ahead. No gradient."""
    return x * torch.exp(-boost_strength * duty_cycles)


def require_units(x: Tensor, duty_cycles: Tensor) -> None:
    """Raise ValueError unless x is [..., n] for duty_cycles [n]."""
    n = duty_cycles.numel()
    if x.dim() < 1 or x.shape[-1] != n or x.is_complex():
        raise ValueError(f"k-winners of {n} units: x is {_form(x)}, choose [..., {n}], real")


def require_pictures(x: Tensor, duty_cycles: Tensor) -> None:
    """Raise ValueError unless x is [batch, channels, height, width] or [channels, height, width]
    for duty_cycles of so many channels, and has positions.
    """
    n = duty_cycles.numel()
    good = x.dim() in (3, 4) and x.shape[-3] == n and x.shape[-1] > 0 and x.shape[-2] > 0
    if not good or x.is_complex():
        raise ValueError(
            f"k-winners of {n} channels: x is {_form(x)}, choose [batch, {n}, height, width] or "
            f"[{n}, height, width], real"
        )


def is_coarse(x: Tensor) -> bool:
    """Whether x has less precision than float32, so that values tie often."""
    return x.dtype in (torch.float16, torch.bfloat16)


@torch.no_grad()
def moving_duty_cycle(
    duty_cycles: Tensor, wins: Tensor, batch: int, seen: Tensor, period: int
) -> Tensor:
    """How often each unit won, in [0, 1], as a moving average over the last `period` samples.

    duty_cycles: before this batch; wins: samples of the batch that a unit won (same shape);
    seen: int64 [], all samples so far with this batch. While fewer than `period` samples were seen
    it is their plain average; a batch longer than `period` is averaged whole. Beyond COUNTED times
    the batch a longer period is as good as one of so many samples.
    """
    span = seen.clamp(max=longest_span(batch, period))
    return (duty_cycles * (span - batch) + wins) / span


def longest_span(batch: int, period: int) -> int:
    """Over how many samples the duty cycle is averaged, at most."""
    return max(min(period, COUNTED * batch), batch)


def binary_entropy(p: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy in bits of units that are on with probability p: of each, and the sum."""
    entropy = (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
    return entropy, entropy.sum()


def max_entropy(n: int, k: float) -> float:
    """The entropy in bits of n units when each wins equally often and k of them at a time."""
    p = k / n
    if p in (0.0, 1.0):
        return 0.0
    return -n * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def _losers(values: Tensor, k: int, dim: int, break_ties: bool, relu: bool) -> Tensor:
    """Bool, True where a value is not among the k largest along a dimension."""
    n = values.shape[dim]
    if not 0 <= k <= n:
        raise ValueError(f"k = {k}: choose 0 to {n}, the number of units that compete")
    if k == 0:
        return torch.ones_like(values, dtype=torch.bool)
    if not break_ties:
        threshold = _kth_largest(values, k, dim)
        # "Below" and not "unless above": a NaN compares false, passes, and shows in the loss.
        return values < (threshold.clamp(min=0) if relu else threshold)
    winners = values.topk(k, dim, sorted=False).indices
    losers = torch.ones_like(values, dtype=torch.bool).scatter_(dim, winners, False)
    return losers | (values <= 0) if relu else losers


def _kth_largest(values: Tensor, k: int, dim: int) -> Tensor:
    rest = values.shape[dim] - k + 1
    if k <= rest:
        return values.topk(k, dim, sorted=False).values.amin(dim, keepdim=True)
    # The same value counted from below, where fewer have to be selected.
    return values.topk(rest, dim, largest=False, sorted=False).values.amax(dim, keepdim=True)


def _form(x: Tensor) -> str:
    return f"{list(x.shape)} of {x.dtype}"


def _silence(x: Tensor, losers: Tensor, inplace: bool) -> Tensor:
    return x.masked_fill_(losers, 0) if inplace else x.masked_fill(losers, 0)
