"""Fully connected network with one classifier per head."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.blocks import Block, k_winners, linear
from models.kept import KeepsTypes

if TYPE_CHECKING:
    from exps.config import Experiment


class MLP(KeepsTypes):
    """Hidden blocks on the flattened input, then a linear classifier per head.

    `units` is the width of the classifiers' input. The classifiers are always dense.
    """

    def __init__(self, hidden: Iterable[Block], units: int, head_sizes: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.units = units
        self.heads = nn.ModuleList(nn.Linear(units, size) for size in head_sizes)

    def kept(self) -> dict[str, Tensor]:
        """The buffers that keep their types: all, also those of `remember_use`."""
        return dict(self.named_buffers())

    @property
    def blocks(self) -> list[Block]:
        """The hidden blocks."""
        return [block for block in self.hidden if isinstance(block, Block)]

    @property
    def all_blocks(self) -> list[Block]:
        """All blocks in the order of computation, convolutions too."""
        return self.blocks

    @property
    def weighted(self) -> list[nn.Module]:
        """All layers with weights: those of all blocks, then the classifiers."""
        return [*(block.linear for block in self.all_blocks), *self.heads]

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units], after dropout; x as in forward."""
        x = x.flatten(1)  # [batch, channels * height * width]
        for block in self.hidden:
            x = block(x)
        return x

    def forward(self, x: Tensor, head: int = 0) -> Tensor:
        """Logits [batch, head_sizes[head]] of pictures [batch, channels, height, width]."""
        return self.heads[head](self.features(x))


def make_model(
    exp: Experiment, input_shape: tuple[int, int, int], head_sizes: Sequence[int]
) -> MLP:
    """hidden_layers of hidden_units; sparse: weights, k-winners, dropout; dense: ReLU instead."""
    widths = [math.prod(input_shape)] + [exp.hidden_units] * exp.hidden_layers
    hidden = [
        Block(
            linear(exp, inputs, outputs),
            k_winners(exp, outputs) if exp.sparsify else nn.ReLU(),
            exp.dropout,
        )
        for inputs, outputs in pairwise(widths)
    ]
    return MLP(hidden, widths[-1], head_sizes)


def remember_use(model: MLP) -> None:
    """Give every layer the buffers `used` and `used_bias`: how old its synapses are, 0 to 1."""
    for layer in model.weighted:
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        for name, of in (("used", weight), ("used_bias", bias)):
            zeros = torch.zeros_like(of, dtype=torch.float32, requires_grad=False)
            layer.register_buffer(name, zeros)
