"""Fully connected network with one classifier per head."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

from models.blocks import Block, k_winners, linear
from models.network import Network

if TYPE_CHECKING:
    from exps.config import Experiment


class MLP(Network):
    """Hidden blocks on the flattened input, then a linear classifier per head."""

    kind = "MLP"

    def __init__(self, hidden: Iterable[Block], units: int, head_sizes: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.add_heads(units, head_sizes)

    @property
    def blocks(self) -> list[Block]:
        """The hidden blocks."""
        return [block for block in self.hidden if isinstance(block, Block)]

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units], after dropout; x as in forward."""
        x = x.flatten(1)  # [batch, channels * height * width]
        for block in self.hidden:
            x = block(x)
        return x


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
