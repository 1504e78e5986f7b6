"""The first layer of a k-winner network: its input is dense, but few of its units matter.

Three ways, of which `first_layer` chooses: all in float32; for processors with fast bf16 products,
with torch's operations alone; and `rounded`, for those with fast int8 products, in compiled loops.
In all of them winners come out, and gradients of winners go in.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.synapses import Weights
from utils.engines.winners.choose import Winners, choose
from utils.engines.winners.compiled import loops
from utils.engines.winners.lazy import LazyLayer, LazyMatrix
from utils.engines.winners.rounded import RoundedLayer
from utils.engines.winners.screen import Screen
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis
from utils.system.runtime import has_fast_bf16, has_fast_int8

SCREENED = 256  # exact values are cheap where at most one unit in so many wins,
ROUNDED = 32  # and in compiled loops, one at a time, until here


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
    """The way that is fastest here for k winners; half: products in bf16; grain as in `Screen`."""
    units, inputs = weights.weight.shape
    if loops() is not None:
        # torch's int8 product is wrong for a single input.
        whole = has_fast_int8() and k * ROUNDED <= units and inputs > 1
        if half or whole:
            return RoundedLayer(weights, sgd, basis, half=half, grain=grain)
    elif half or (has_fast_bf16() and k * SCREENED <= units):
        return HalfLayer(weights, sgd, basis, exact=not half, grain=grain)
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


class HalfLayer(LazyLayer):
    """bf16 products, and SGD on the rows of winners alone (see `lazy`).

    exact: the bf16 products only find candidates, whose values are computed in float32 (see
    `screen`). Otherwise they are the values.
    """

    ratios = None

    def __init__(
        self, weights: Weights, sgd: SGD, basis: Basis, *, exact: bool, grain: float
    ) -> None:
        self.weights, self.sgd = weights, sgd
        self.matrix = LazyMatrix(weights.weight.detach(), None, basis)
        self.screen_of = partial(Screen, bias=weights.bias, exact=exact, grain=grain)
        self.screen = self.screen_of(self.matrix.parts)
        self.between: Screen | None = None  # for testing, from the weights as they are then

    def train_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The k-winners of a training batch x [batch, inputs]."""
        return self.screen.winners(x, self.matrix.scale, boost, k)

    def test_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The same between steps: one part, so half of the product."""
        if self.between is None:
            self.between = self.screen_of([self.matrix.weight()])
        return self.between.winners(x, [1.0], boost, k)

    def backward(self, x: Tensor, winners: Tensor, gradient: Tensor) -> None:
        """The SGD step for the gradient [batch, k] of the winners' pre-activations."""
        self.between = None
        rows, shares = _gradient_rows(x, winners, gradient, self.weights, self.sgd)
        if self.weights.weight in self.sgd.factors:
            shares *= self.sgd.factors[self.weights.weight][rows]
        rescaled = self.matrix.step()
        self.matrix.add_rows(rows, shares)
        self.screen.refresh(None if rescaled else rows)

    def refresh(self, ratios: Tensor | None = None) -> None:
        """Follow the matrix in all its rows."""
        self.screen.refresh()
        self.between = None


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
