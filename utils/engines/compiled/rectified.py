"""What follows a convolution, as one layer: ReLU, k-winners over the channels, dropout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from models.blocks import Block
from models.dropout import Dropout, draws
from sparse_syn.functional import is_coarse
from sparse_syn.k_winners import KWinners2d
from sparse_syn.sparse_weights import SparseWeightsBase

PRECISIONS = torch.float32, torch.bfloat16  # of pictures; others are left to the plain layers


class How(NamedTuple):
    """boost [channels] (None: no k-winners), k, and exact: whether exactly k win where values are
    equal. drawn: random numbers int16 in the shape of the pictures, or in the order of their memory
    (None: all stay), of which a unit stays with `least` or more, and is multiplied by factor.
    """

    boost: Tensor | None
    k: int
    exact: bool
    drawn: Tensor | None
    least: int
    factor: float


class Rectified(nn.Module):
    """ReLU, k-winners over the channels if there are any, and dropout, of pictures.

    function: of the pictures and `How`, their outputs and how often each channel won, [channels].
    """

    function: type[Function]

    def __init__(self, activation: nn.Module, winners: KWinners2d | None, dropout: Dropout) -> None:
        super().__init__()
        self.activation, self.winners, self.dropout = activation, winners, dropout

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, channels, height, width] -> the same shape."""
        if x.dtype not in PRECISIONS:
            plain: Tensor = self.dropout(self.activation(x))
            return plain
        layer, again = self.winners, True
        boost, k, exact = None, x.shape[1], False
        if layer is not None:
            layer._require(x)
            state: tuple[Tensor, ...] = layer.duty_cycle, layer.boost_strength
            k, exact = layer.k_inference, layer.break_ties or is_coarse(x)
            if layer.training:
                k = layer.k
                again, state = layer.passes.before(x, state)
            boost = torch.exp(-state[1] * state[0]).flatten()
        drawn, least, factor = None, 0, 1.0
        if self.dropout.training and self.dropout.p:
            drawn, least, factor = draws(x.shape, self.dropout.p, x.device)
        factor = torch.tensor(factor).to(x.dtype).item()
        y, wins = self.function.apply(x, How(boost, k, exact, drawn, least, factor))
        if layer is not None and not again:
            each = wins.float().view_as(layer.duty_cycle) / x.shape[2:].numel()
            layer.count_wins(each, len(x))
        return y


def parts_of(block: Block) -> tuple[nn.Module, KWinners2d | None, Dropout] | None:
    """The activation, its k-winners, if there are any, and the dropout that follow the convolution
    of a block; None where one layer cannot take their place."""
    modules = list(block.modules())
    if type(block.dropout) is not Dropout or any(m._forward_hooks for m in modules):
        return None
    match list(block.activation) if isinstance(block.activation, nn.Sequential) else []:
        case [nn.ReLU(), KWinners2d() as winners] if winners.local:
            plain = type(winners) is KWinners2d and not (winners.relu or winners.inplace)
            return (block.activation, winners, block.dropout) if plain else None
    masked = isinstance(block.linear, SparseWeightsBase)
    layer = block.linear.module if masked else block.linear
    plain = type(block.activation) is nn.ReLU and type(layer) is nn.Conv2d
    return (block.activation, None, block.dropout) if plain else None


def has_places(net: nn.Module) -> bool:
    """Whether there is a block in which one layer can take their place."""
    return any(isinstance(m, Block) and parts_of(m) is not None for m in net.modules())


def put_in(net: nn.Module, kind: type[Rectified]) -> None:
    """Put such layers into a copy of a network."""
    for module in list(net.modules()):
        if isinstance(module, Block) and (parts := parts_of(module)):
            module.activation = kind(*parts)
            module._modules["dropout"] = nn.Identity()
