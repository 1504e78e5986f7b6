"""Hidden layers one after the other, convolutions first, then one classifier per head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from models.blocks import Block
from models.network import Network, Wire


class Feedforward(Network):
    """Convolution blocks if there are any, then hidden blocks on what is flattened."""

    def __init__(
        self,
        hidden: Iterable[Block],
        units: int,
        head_sizes: Sequence[int],
        convolutions: Iterable[Block] = (),
    ) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.add_heads(units, head_sizes)
        self.convolutions = nn.ModuleList(convolutions)

    @property
    def blocks(self) -> list[Block]:
        """The hidden blocks."""
        return [block for block in self.hidden if isinstance(block, Block)]

    @property
    def all_blocks(self) -> list[Block]:
        """The convolutions, then the hidden blocks."""
        return [block for block in self.convolutions if isinstance(block, Block)] + self.blocks

    @property
    def wires(self) -> list[Wire]:
        """Every layer is a group."""
        before = [None, *range(len(self.all_blocks))]
        return [
            wire
            for i, (block, reads) in enumerate(zip(self.all_blocks, before, strict=False))
            for wire in (Wire(block.linear, reads, i), Wire(block.activation, None, i))
        ]

    @property
    def plain(self) -> bool:
        """Whether it is its hidden blocks alone, of which there are some."""
        own = type(self).features is not Feedforward.features
        return not own and not self.convolutions and len(self.hidden) > 0

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units], after dropout; x as in forward."""
        for block in self.convolutions:
            x = block(x)
        x = x.flatten(1)  # [batch, channels * height * width]
        for block in self.hidden:
            x = block(x)
        return x
