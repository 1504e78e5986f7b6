"""Layers that compute by compiled loops, in the places of those that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.filters import Pooled
from utils.engines.compiled import kernels
from utils.engines.compiled.kernels import PARTS, TILE, Structure
from utils.engines.compiled.pooled import PooledLoops
from utils.engines.compiled.rectified import How, Rectified, put_in
from utils.engines.compiled.threads import array, in_parts

Masked = list[tuple[nn.Parameter, Tensor]]
LARGE, DENSE = 2**22, 0.2  # the fewest weights that a sparse product pays for; its highest density
OUTPUTS = 2**16  # the most that indices have room for


class _Rectified(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, how: How) -> tuple[Tensor, Tensor]:
        x, factor, drawn = x.contiguous(), how.factor, how.drawn
        boost = torch.ones(x.shape[1]) if how.boost is None else how.boost
        drawn = torch.empty(0, 1, 1, 1, dtype=torch.int16) if drawn is None else drawn
        y, passes = torch.empty_like(x), torch.empty(x.shape, dtype=torch.uint8)
        wins = torch.zeros(PARTS, x.shape[1], dtype=torch.int64)
        here = [array(t.flatten(2)) for t in (x, drawn, y, passes)]
        in_parts(
            kernels.rectified_winners,
            *(
                here[0],
                array(boost),
                how.k,
                how.exact,
                here[1],
                np.int16(how.least),
                np.float32(factor),
            ),
            *(here[2], here[3], array(wins)),
        )
        ctx.save_for_backward(passes)
        ctx.factor = factor
        ctx.mark_non_differentiable(wins)
        return y, wins.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (passes,) = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty(dy.shape, dtype=dy.dtype)
        rows = [array(t.flatten(1)) for t in (dy, passes, dx)]
        in_parts(kernels.passed_back, *rows[:2], np.float32(ctx.factor), rows[2])
        return dx, None


class Loops(Rectified):
    """By compiled loops."""

    function = _Rectified


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: SparseLinear) -> Tensor:
        s, values, sums = layer.structure, layer.values, torch.empty(PARTS, len(weight), TILE)
        y = torch.empty(len(x), len(weight), dtype=x.dtype)
        for some, out in zip(x.split(TILE), y.split(TILE), strict=True):
            in_parts(kernels.product, array(some), array(values), s, array(sums))
            out.copy_(sums.sum(0)[:, : len(some)].t() + bias)
        ctx.save_for_backward(x)
        ctx.layer, ctx.seen = layer, layer.seen
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        (x,), layer = ctx.saved_tensors, ctx.layer
        if ctx.seen != layer.now():
            raise RuntimeError("the weights have changed between a pass and its gradient")
        s, values = layer.structure, layer.values
        dx, slopes = torch.empty_like(x), torch.zeros_like(values)
        for some, due, found in zip(*(t.split(TILE) for t in (x, dy, dx)), strict=True):
            turned = torch.zeros(dy.shape[1], TILE)
            turned[:, : len(due)] = due.t()
            parts = (array(t) for t in (turned, found, slopes))
            in_parts(kernels.gradients, array(some), array(values), s, *parts)
        if layer.compact:
            layer.slopes = slopes
            return dx, None, dy.float().sum(0), None
        dw = torch.empty(dy.shape[1], x.shape[1])
        in_parts(kernels.scatter, array(slopes), s, array(dw))
        return dx, dw, dy.float().sum(0), None


class SparseLinear(nn.Module):
    """nn.Linear, reading the weights alone that no mask hides. Those hidden have a gradient of
    exactly zero.

    compact: the weight has no gradient; `descend` has it, and takes the step of SGD. The weight is
    then what it was at some time, until `write_back`.
    """

    structure: Structure
    values: Tensor  # the weights that are there

    def __init__(self, layer: nn.Linear, zero_mask: Tensor) -> None:
        super().__init__()
        self.layer, self.zero_mask = layer, zero_mask
        self.seen, self.compact = (-1, -1), False
        self.slopes: Tensor | None = None
        self.ahead = False  # of the weight

    def now(self) -> tuple[int, int]:
        """The versions of mask and weight."""
        return self.zero_mask._version, self.layer.weight._version

    def descend(self, momenta: Tensor | None, settings: dict[str, Any]) -> None:
        """A step of SGD with these settings, if there was a gradient; momenta: of all weights."""
        if self.slopes is None:
            return
        names = ("lr", "momentum", "weight_decay")
        sgd = np.array([settings[name] for name in names], np.float32)
        momenta = torch.empty(0, 0) if momenta is None else momenta
        parts = (array(t) for t in (momenta, self.values))
        slopes, nesterov = array(self.slopes), settings["nesterov"]
        in_parts(kernels.descend, slopes, self.structure, *parts, sgd, nesterov)
        self.slopes, self.ahead = None, True

    def write_back(self) -> None:
        """Make the weight what it is now, which is no other version of it."""
        if self.ahead:
            weight = array(self.layer.weight)
            in_parts(kernels.scatter, array(self.values), self.structure, weight)
            self.ahead = False

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, inputs] -> [batch, outputs]."""
        mask, weight = self.zero_mask, self.layer.weight
        if self.seen[0] != mask._version:
            self.structure = kernels.structure(~mask.numpy())
        # What torch's fused SGD writes is no other version.
        if not self.compact or self.seen != self.now():
            self.seen = self.now()
            self.values = torch.empty(len(self.structure.columns))
            in_parts(kernels.gather, array(weight), self.structure, array(self.values))
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        return _Product.apply(x.contiguous(), weight, self.layer.bias, self)

    @staticmethod
    def pays(layer: nn.Linear, zero_mask: Tensor) -> bool:
        """Whether it is faster than the layer itself, and can take its place."""
        return (
            layer.bias is not None
            and layer.weight.dtype == torch.float32
            and layer.weight.is_contiguous()
            and layer.weight.numel() >= LARGE
            and layer.out_features <= OUTPUTS
            and float((~zero_mask).float().mean()) <= DENSE
        )


def with_loops(net: nn.Module, masked: Masked) -> Masked:
    """Put such layers into a copy of a network that masks nothing by itself; the weights that still
    are to be masked."""
    masks = dict[Tensor, Tensor](masked)
    put_in(net, Loops)
    for module in list(net.modules()):
        for name, child in module._modules.items():
            if type(child) is Pooled:
                module._modules[name] = PooledLoops(child)
            weight = getattr(child, "weight", None)
            mask = masks.get(weight) if isinstance(weight, nn.Parameter) else None
            if type(child) is nn.Linear and mask is not None and SparseLinear.pays(child, mask):
                module._modules[name] = SparseLinear(child, mask)
                del masks[child.weight]
    return [(weight, mask) for weight, mask in masked if weight in masks]
