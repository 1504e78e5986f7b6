"""The pieces that networks are made of, built as an experiment says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from models.dropout import Dropout
from models.nupic import sparse_library

if TYPE_CHECKING:
    from exps.config import Experiment


class Block(nn.Module):
    """One hidden layer: weights, then activation, then dropout."""

    def __init__(self, linear: nn.Module, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.linear(x)))


def linear(exp: Experiment, inputs: int, outputs: int) -> nn.Module:
    """nn.Linear, inside SparseWeights where the experiment asks for a density below 1."""
    layer = nn.Linear(inputs, outputs)
    density = getattr(exp, exp.densities[0])
    if not exp.sparsify or density == 1:
        return layer
    library = sparse_library(exp.sparse_layers)
    return library.SparseWeights(layer, weight_sparsity=density)


def convolution(
    exp: Experiment,
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    bias: bool = True,
) -> nn.Module:
    """nn.Conv2d, inside SparseWeights2d for a density below 1."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)
    density = getattr(exp, exp.densities[1])
    if not exp.sparsify or density == 1:
        return layer
    library = sparse_library(exp.sparse_layers)
    return library.SparseWeights2d(layer, weight_sparsity=density)


def k_winners(exp: Experiment, units: int) -> nn.Module:
    """k-winners over the units of a fully connected layer."""
    library = sparse_library(exp.sparse_layers)
    return library.KWinners(units, exp.percent_on_fc, **_boosting(exp))


def k_winners_2d(exp: Experiment, channels: int) -> nn.Module:
    """k-winners over the channels at each position."""
    library = sparse_library(exp.sparse_layers)
    return library.KWinners2d(channels, exp.percent_on_conv, local=True, **_boosting(exp))


def _boosting(exp: Experiment) -> dict[str, Any]:
    """The arguments that both k-winner layers take from keys of the same names."""
    names = "k_inference_factor", "boost_strength", "boost_strength_factor", "duty_cycle_period"
    return {name: getattr(exp, name) for name in names}
