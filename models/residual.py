"""Residual blocks of two 3 x 3 convolutions (He et al., 2016), dense or sparse.

Winners are chosen after every ReLU, also of the sum of a block: so all that a convolution reads is
sparse, but the picture. Without a norm a block begins as its shortcut, and what it adds is scaled
down by how many blocks there are (Zhang et al., 2019, "Fixup initialization: residual learning
without normalization", without its scalars).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.blocks import Block, convolution, k_winners_2d
from models.network import Network, Wire
from models.synapses import Weights
from sparse_syn.sparse_weights import rezero_weights

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.resnet18 import Step

GROUPS = 32, 16, 8, 4, 2


class Addition(nn.Module):
    """What a block adds to its shortcut, and the ReLU of their sum."""

    def __init__(self, exp: Experiment, step: Step) -> None:
        super().__init__()
        inputs, outputs, stride = step
        self.first = filters(exp, inputs, outputs, 3, stride)
        self.between = rectified(exp, outputs)
        self.second = filters(exp, outputs, outputs, 3)
        shortcut = filters(exp, inputs, outputs, 1, stride) if step.projects else nn.Identity()
        self.shortcut, self.after = shortcut, rectified(exp, outputs)
        self.projects = step.projects

    def wires(self, reads: int, inside: int, writes: int) -> list[Wire]:
        """With the groups that it reads, has between its convolutions, and writes."""
        shortcut = _wires(self.shortcut, reads, writes) if self.projects else []
        return [
            *_wires(self.first, reads, inside),
            Wire(self.between, None, inside),
            *_wires(self.second, inside, writes),
            *shortcut,
            Wire(self.after, None, writes),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, inputs, height, width] -> [batch, outputs, height / stride, width / stride]."""
        added: Tensor = self.second(self.between(self.first(x)))
        return self.after(added + self.shortcut(x))  # type: ignore[no-any-return]


class Residual(Network):
    """A first convolution, residual blocks, and the mean over all positions."""

    def __init__(
        self, exp: Experiment, channels: int, steps: Sequence[Step], head_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        width = steps[0].inputs
        self.stem = nn.Sequential(filters(exp, channels, width, 3), rectified(exp, width))
        self.stages = nn.Sequential(*(Addition(exp, step) for step in steps))
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if exp.norm == "none":
            self._unnormed(len(steps))
        self.apply(rezero_weights)
        self.add_heads(steps[-1].outputs, head_sizes)

    @torch.no_grad()
    def _unnormed(self, blocks: int) -> None:
        for module in self.modules():
            if isinstance(module, Addition):
                Weights.of(module.first[0]).weight.div_(math.sqrt(blocks))
                Weights.of(module.second[0]).weight.zero_()
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.zero_()

    @property
    def wires(self) -> list[Wire]:
        """Of groups in the order of `resnet18.groups`: all that is added to is one."""
        first, winners = self.stem
        found, stream, last = [*_wires(first, None, 0), Wire(winners, None, 0)], 0, 0
        for block in self.stages:
            assert isinstance(block, Addition)
            inside, after = last + 1, last + 2 if block.projects else stream
            found += block.wires(stream, inside, after)
            stream, last = after, max(inside, after)
        return found

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units] for x [batch, channels, height, width]."""
        return self.pool(self.stages(self.stem(x))).flatten(1)  # type: ignore[no-any-return]


def filters(
    exp: Experiment, inputs: int, outputs: int, kernel: int, stride: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, and the norm."""
    bias = exp.norm == "none"
    made = convolution(exp, inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    if exp.norm == "batch":
        return nn.Sequential(made, nn.BatchNorm2d(outputs))
    if exp.norm == "group":
        return nn.Sequential(made, nn.GroupNorm(groups(outputs), outputs))
    return nn.Sequential(made)


def _wires(made: nn.Module, reads: int | None, writes: int) -> list[Wire]:
    """Of a convolution, and of a norm behind it: of `filters`."""
    convolution, *norm = made.children()
    return [Wire(convolution, reads, writes), *(Wire(one, None, writes) for one in norm)]


def groups(channels: int) -> int:
    """As many as make even groups of two channels or more: one alone would lose its mean."""
    return next((n for n in GROUPS if channels % n == 0 and channels > n), 1)


def rectified(exp: Experiment, channels: int) -> nn.Module:
    """ReLU, and k-winners over the channels, in the form in which engines look for both."""
    if not exp.sparsify:
        return nn.ReLU()
    return Block(nn.Identity(), nn.Sequential(nn.ReLU(), k_winners_2d(exp, channels)), dropout=0.0)
