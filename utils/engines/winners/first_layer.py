"""The first layer of a k-winner network: its input is dense, but few of its units matter.

Two ways, of which `first_layer` chooses: a product in float32, and `rounded`, for processors with
fast products of int8 or bf16. In both winners come out, and gradients of winners go in.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.synapses import Weights
from utils.engines.winners.choose import Winners, choose
from utils.engines.winners.lazy import LazyMatrix
from utils.engines.winners.rounded import RoundedLayer
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis
from utils.system.runtime import has_fast_int8

ROUNDED = 32  # exact values are cheap where at most one unit in so many wins


class FirstLayer(Protocol):
    """Weights [units, inputs] that only the engine changes."""

    weights: Weights

    @property
    def matrix(self) -> LazyMatrix | None:
        """What holds the weights, if the model does not."""

    def train_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The k-winners of a training batch x [batch, inputs]."""

    def test_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The same between steps, for many batches with the same weights."""

    def backward(self, x: Tensor, winners: Tensor, gradient: Tensor) -> None:
        """The SGD step for the gradient [batch, k] of the winners' pre-activations.

        The parameters that `SGD.gradient` was asked for take theirs with `SGD.step`.
        """

    def restart(self) -> None:
        """Momentum starts from zero."""

    def follow_mask(self) -> None:
        """Take over the model's weights; make zero what the mask hides, and its momentum."""

    def write_back(self) -> None:
        """Write the weights into the model."""

    @property
    def ratios(self) -> Tensor | None:
        """What else than the matrix the layer depends on [units], if anything."""

    def refresh(self, ratios: Tensor | None = None) -> None:
        """Follow the weights, which were changed from outside; ratios: of a layer whose matrix was
        the same.
        """


def first_layer(
    weights: Weights, sgd: SGD, basis: Basis, *, half: bool, k: int, grain: float
) -> FirstLayer:
    """The way that is fastest here for k winners; half: products in bf16; grain as there."""
    units, inputs = weights.weight.shape
    # torch's int8 product is wrong for a single input.
    if half or (has_fast_int8() and k * ROUNDED <= units and inputs > 1):
        return RoundedLayer(weights, sgd, basis, half=half, grain=grain)
    return FullLayer(weights, sgd)


class FullLayer:
    """float32 products, and SGD on all weights."""

    matrix = ratios = None

    def __init__(self, weights: Weights, sgd: SGD) -> None:
        self.weights, self.sgd = weights, sgd
        self.touched = torch.zeros(0, dtype=torch.int64)

    def train_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The k-winners of x [batch, inputs]."""
        return choose(linear(x, self.weights.weight, self.weights.bias), boost, k)

    test_winners = train_winners

    def backward(self, x: Tensor, winners: Tensor, gradient: Tensor) -> None:
        """Note the gradient [batch, k] of the winners' pre-activations for the next SGD step."""
        rows, shares = _gradient_rows(x, winners, gradient, self.weights, self.sgd)
        total = self.sgd.gradient(self.weights.weight)
        total.index_fill_(0, self.touched, 0)  # what the step before left there
        total.index_add_(0, rows, shares)
        self.touched = rows

    def restart(self) -> None:
        """Nothing: `SGD` holds the momentum."""

    @torch.no_grad()
    def follow_mask(self) -> None:
        """Make zero what the mask hides, and its momentum."""
        weight, mask = self.weights.weight, self.weights.zero_mask
        if mask is not None:
            weight.masked_fill_(mask, 0)
            if weight in self.sgd.momenta:
                self.sgd.momenta[weight].masked_fill_(mask, 0)

    def write_back(self) -> None:
        """Nothing: the model's weights are what is trained."""

    def refresh(self, ratios: Tensor | None = None) -> None:
        """Nothing."""


def _gradient_rows(
    x: Tensor, winners: Tensor, gradient: Tensor, weights: Weights, sgd: SGD
) -> tuple[Tensor, Tensor]:
    """Which rows of the weights have a gradient [touched], and theirs [touched, inputs].

    Rows may repeat, and then add up. The bias takes its gradient here.
    """
    bias = sgd.gradient(weights.bias).zero_()
    bias.index_add_(0, winners.flatten(), gradient.flatten())
    some = gradient.flatten().nonzero().flatten()  # dropout leaves a part of them
    rows = winners.flatten()[some]
    shares = gradient.flatten()[some].unsqueeze(1) * x[some // winners.shape[1]]
    if weights.zero_mask is not None:
        shares.masked_fill_(weights.zero_mask[rows], 0)
    return rows, shares
