"""Two 5 x 5 convolutions in front of a fully connected network with one hidden layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from models.blocks import Block, convolution, k_winners, k_winners_2d, linear
from models.mlp import MLP

if TYPE_CHECKING:
    from exps.config import Experiment

KERNEL = 5
CHANNELS = (64, 128)


class CNN(MLP):
    """Convolution blocks, then what an MLP does."""

    kind = "CNN"

    def __init__(
        self,
        convolutions: Iterable[Block],
        hidden: Iterable[Block],
        units: int,
        head_sizes: Sequence[int],
    ) -> None:
        super().__init__(hidden, units, head_sizes)
        self.convolutions = nn.ModuleList(convolutions)

    @property
    def all_blocks(self) -> list[Block]:
        """The convolutions, then the hidden blocks."""
        return [block for block in self.convolutions if isinstance(block, Block)] + self.blocks

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units], after dropout; x as in forward."""
        for block in self.convolutions:
            x = block(x)  # [batch, 64 then 128, 4 less high, 4 less wide]
        return super().features(x)


def make_model(
    exp: Experiment, input_shape: tuple[int, int, int], head_sizes: Sequence[int]
) -> CNN:
    """Every layer has a ReLU and dropout; in between k-winners where the experiment is sparse."""
    channels, height, width = input_shape
    convolutions = []
    for outputs in CHANNELS:
        weights = convolution(exp, channels, outputs, KERNEL)
        sparse = k_winners_2d(exp, outputs) if exp.sparsify else None
        convolutions.append(Block(weights, _rectified(sparse), exp.dropout))
        channels, height, width = outputs, height - KERNEL + 1, width - KERNEL + 1
    weights = linear(exp, channels * height * width, exp.hidden_units)
    sparse = k_winners(exp, exp.hidden_units) if exp.sparsify else None
    hidden = [Block(weights, _rectified(sparse), exp.dropout)]
    return CNN(convolutions, hidden, exp.hidden_units, head_sizes)


def _rectified(winners: nn.Module | None) -> nn.Module:
    return nn.ReLU() if winners is None else nn.Sequential(nn.ReLU(), winners)
