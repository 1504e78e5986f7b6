"""A hidden layer between two layers of winners: read by row, updated by entry."""

from __future__ import annotations

import torch
from torch import Tensor

from models.synapses import Weights
from utils.engines.winners.choose import Winners
from utils.engines.winners.lazy import LazyMatrix
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis


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

    def forward(self, inputs: Winners) -> Tensor:
        """Pre-activations [batch, outputs] of the winners of the layer before."""
        return self.matrix.rows_sum(inputs.unit, inputs.value).add_(self.weights.bias)

    def backward(self, inputs: Winners, winners: Tensor, gradient: Tensor) -> Tensor:
        """The gradient [batch, inputs] for the inputs' values; the weights take their SGD step.

        winners int64 [batch, k]: this layer's; gradient [batch, k]: for their pre-activations.
        """
        bias = self.sgd.gradient(self.weights.bias).zero_()
        bias.index_add_(0, winners.flatten(), gradient.flatten())
        columns = self.matrix.columns
        where = inputs.unit.unsqueeze(2) * columns + winners.unsqueeze(1)  # [batch, inputs, k]
        back = torch.einsum("bik,bk->bi", self.matrix.entries(where), gradient)
        entries = (inputs.value.unsqueeze(2) * gradient.unsqueeze(1)).flatten()
        touched = entries.nonzero().flatten()  # dropout leaves a part of them
        where, entries = where.flatten()[touched], entries[touched]
        if self.unmasked is not None:
            entries *= self.unmasked[where]
        if self.factors is not None:
            entries *= self.factors[where]
        self.matrix.step()
        self.matrix.add(where, entries)
        return back

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the weights into the model."""
        self.weights.weight.copy_(self.matrix.weight().t())
