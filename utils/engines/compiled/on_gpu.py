"""What follows a convolution on a GPU, in one kernel each way: ReLU, k-winners over the channels at
each position, and dropout.

torch takes a dozen passes over the output of the convolution for them, and its selection along the
channels is the slowest. Here a program holds all channels of some positions and finds the k-th
largest boosted value bit by bit: values are not negative, so their bits are in their order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from utils.engines.compiled.rectified import How, Rectified

POSITIONS = 32  # of a picture, in a program, at most
VALUES = 4096  # of all channels at these, that a warp has room for


@triton.jit
def _rectify(
    x, boost, drawn, y, passes, wins, C, P, K, SB, SC, SP, least, factor,
    WINNERS: tl.constexpr, EXACT: tl.constexpr, DROP: tl.constexpr, CHANNELS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    c = tl.arange(0, CHANNELS)
    p = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = (c < C)[:, None] & (p < P)[None, :]
    where = tl.program_id(1).to(tl.int64) * SB + c[:, None] * SC + p[None, :] * SP
    value = tl.load(x + where, mask=inside, other=0.0).to(tl.float32)
    on = inside & ((value > 0) | (value != value))
    if WINNERS:
        bits = tl.where(on, value, 0.0) * tl.load(boost + c, mask=c < C, other=0.0)[:, None]
        bits = tl.where(inside, bits.to(tl.int32, bitcast=True), -1)
        least_on = tl.zeros([TILE], tl.int32)
        for i in range(31):
            higher = least_on | (1 << (30 - i))
            enough = tl.sum((bits >= higher[None, :]).to(tl.int32), 0) >= K
            least_on = tl.where(enough, higher, least_on)
        above, level = bits > least_on[None, :], bits == least_on[None, :]
        if EXACT:  # of equal ones the first, as many as are left
            left = K - tl.sum(above.to(tl.int32), 0)
            level = level & (tl.cumsum(level.to(tl.int32), 0) <= left[None, :])
        on = on & (above | level)
        tl.atomic_add(wins + c, tl.sum((on & (value > 0)).to(tl.int32), 1), mask=c < C)
    if DROP:
        on = on & (tl.load(drawn + where, mask=inside, other=0).to(tl.int32) >= least)
    out = tl.where(on, value * factor, 0.0)
    tl.store(y + where, out.to(y.dtype.element_ty), mask=inside)
    tl.store(passes + where, on.to(tl.int8), mask=inside)


class _Rectified(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, how: How) -> tuple[Tensor, Tensor]:
        boost, k, exact, drawn, least, factor = how
        batch, channels, height, width = x.shape
        y, passes = torch.empty_like(x), torch.empty_like(x, dtype=torch.int8)
        wins = torch.zeros(channels, dtype=torch.int32, device=x.device)
        of_batch, of_channel, _, of_position = x.stride()
        positions, dropping = height * width, drawn is not None
        held = triton.next_power_of_2(channels)
        tile = max(min(POSITIONS, VALUES // held), 1)
        _rectify[triton.cdiv(positions, tile), batch](
            x, wins if boost is None else boost, drawn if dropping else passes, y, passes, wins,
            channels, positions, k, of_batch, of_channel, of_position, least, factor,
            WINNERS=boost is not None, EXACT=exact, DROP=dropping,
            CHANNELS=held, TILE=tile,
            num_warps=1,  # a lane holds all channels of a position, and counts alone
        )  # fmt: skip
        ctx.save_for_backward(passes)
        ctx.factor = factor
        ctx.mark_non_differentiable(wins)
        return y, wins

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (passes,) = ctx.saved_tensors
        return dy * passes * ctx.factor, None


class OnGpu(Rectified):
    """By kernels, for pictures dense in memory in whatever order, which random numbers go by."""

    function = _Rectified
