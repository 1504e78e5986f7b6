"""A hidden layer between two layers of winners: read by row, updated by entry."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.synapses import Weights
from utils.engines.winners.choose import FEW, Winners, choose
from utils.engines.winners.compiled import Array, array, loops, numbers
from utils.engines.winners.lazy import LazyMatrix
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis

NO_MASK, NOTHING = np.empty(0, np.bool_), np.empty(0, np.float32)


class HiddenLayer:
    """Weights [inputs, outputs], the transpose of the model's, of which a step touches few."""

    def __init__(self, weights: Weights, sgd: SGD, basis: Basis) -> None:
        self.weights, self.sgd = weights, sgd
        weight = weights.weight.detach().t()
        self.matrix = LazyMatrix(weight, None, basis)
        self.follow_mask()
        self.follow_factors()

    def follow_factors(self) -> None:
        """Take over what the gradients are multiplied with now."""
        factors = self.sgd.factors.get(self.weights.weight)
        self.factors = None if factors is None else factors.t().flatten()

    @torch.no_grad()
    def take_over(self) -> None:
        """Take over the weights and the mask of the model's layer as they are now."""
        self.matrix.take_over(self.weights.weight.t())
        self.follow_mask()

    def follow_mask(self) -> None:
        """Take over the mask of the model's layer as it is now: what it hides is zero."""
        mask = self.weights.zero_mask
        if mask is not None:
            self.matrix.hide(mask.t())
        self.unmasked = None if mask is None else (~mask).t().flatten()

    def winners(
        self, inputs: Winners, boost: Tensor | None, k: int, *, break_ties: bool
    ) -> Winners:
        """The k-winners given those of the layer before, with `boost` and ties as in `choose`."""
        bias, shape = self.weights.bias, (len(inputs.unit), k)
        on = Winners(torch.empty(shape, dtype=torch.int64), bias.new_empty(shape))
        ranked = torch.ones(len(bias)) if boost is None else boost
        arrays = _arrays(inputs), self._parts(), self._mix(), array(bias), array(ranked)
        if k * FEW <= len(bias) and loops().choose_rows(*arrays, break_ties, _arrays(on)):
            return on
        return choose(self._all(inputs), boost, k, break_ties=break_ties)

    def backward(self, inputs: Winners, winners: Tensor, gradient: Tensor) -> Tensor:
        """The gradient [batch, inputs] for the inputs' values; the weights take their SGD step.

        winners int64 [batch, k]: this layer's; gradient [batch, k]: for their pre-activations.
        """
        bias = self.sgd.gradient(self.weights.bias).zero_()
        bias.index_add_(0, winners.flatten(), gradient.flatten())
        back, on = torch.empty_like(inputs.value), (array(winners), array(gradient))
        loops().back(array(inputs.unit), *on, self._parts(), self._mix(), array(back))
        self.matrix.step()
        kept = NO_MASK if self.unmasked is None else array(self.unmasked)
        factors = NOTHING if self.factors is None else array(self.factors)
        gains = numbers(gradient, *self.matrix.gains(), 0.0)[:2]
        loops().add(_arrays(inputs), *on, kept, factors, self._parts(), gains)
        return back

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the weights into the model."""
        self.weights.weight.copy_(self.matrix.weight().t())

    def _all(self, inputs: Winners) -> Tensor:
        """Pre-activations [batch, outputs] given the winners of the layer before."""
        return self.matrix.rows_sum(inputs.unit, inputs.value).add_(self.weights.bias)

    def _parts(self) -> tuple[Array, Array]:
        """P and Q; without momentum P again, of which nothing is added."""
        return array(self.matrix.parts[0]), array(self.matrix.parts[-1])

    def _mix(self) -> Array:
        return numbers(self.weights.bias, *self.matrix.scale, 0.0)[:2]


def _arrays(winners: Winners) -> tuple[Array, Array]:
    return array(winners.unit), array(winners.value)
