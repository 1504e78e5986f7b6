"""A classifier whose inputs are winners: it reads and updates what belongs to them."""

from __future__ import annotations

import torch
from torch import Tensor

from models.synapses import Weights
from utils.engines.winners.choose import Winners
from utils.engines.winners.compiled import array, loops
from utils.optimizers.momentum import SGD


class Classifier:
    """Weights [classes, units], of which `SGD.step` makes the step."""

    def __init__(self, weights: Weights, sgd: SGD) -> None:
        self.weights, self.sgd = weights, sgd

    def begin(self) -> None:
        """A step begins: gradients are zero."""
        for parameter in (self.weights.weight, self.weights.bias):
            self.sgd.gradient(parameter).zero_()

    def logits(self, on: Winners) -> Tensor:
        """Logits [batch, classes]."""
        weight, bias = self.weights.weight, self.weights.bias
        logits = on.value.new_empty(len(on.unit), len(bias))
        loops().classify(*map(array, (on.unit, on.value, weight, bias, logits)))
        return logits

    def backward(self, on: Winners, error: Tensor) -> Tensor:
        """The gradient [batch, k] for the values of what is on, given dL/dlogits [batch, classes];
        those of the weights are added to `SGD.gradients`."""
        weight, back = self.weights.weight, torch.empty_like(on.value)
        gradients = self.sgd.gradients[weight], self.sgd.gradients[self.weights.bias]
        arrays = map(array, (on.unit, on.value, error.contiguous(), weight))
        loops().classify_back(*arrays, tuple(map(array, gradients)), array(back))
        return back
