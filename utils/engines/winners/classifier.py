"""A classifier whose inputs are winners: it reads and updates what belongs to them."""

from __future__ import annotations

import torch
from torch import Tensor

from models.synapses import Weights
from utils.engines.winners.choose import Winners
from utils.engines.winners.compiled import array, loops
from utils.optimizers.momentum import SGD


def make_classifier(weights: Weights, sgd: SGD) -> Classifier:
    """The way that is fastest here."""
    return (CompiledClassifier if loops() is not None else Classifier)(weights, sgd)


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
        rows = self.weights.weight.t()[on.unit]  # [batch, k, classes]
        return torch.einsum("bk,bkc->bc", on.value, rows).add_(self.weights.bias)

    def backward(self, on: Winners, error: Tensor) -> Tensor:
        """The gradient [batch, k] for the values of what is on, given dL/dlogits [batch, classes];
        those of the weights are added to `SGD.gradients`."""
        weight, bias = self.weights.weight, self.weights.bias
        classes, units = weight.shape
        where = on.unit.unsqueeze(2) + torch.arange(classes) * units  # [batch, k, classes]
        shares = on.value.unsqueeze(2) * error.unsqueeze(1)
        self.sgd.gradients[weight].view(-1).index_add_(0, where.flatten(), shares.flatten())
        self.sgd.gradients[bias] += error.sum(0)
        return torch.einsum("bkc,bc->bk", weight.t()[on.unit], error)


class CompiledClassifier(Classifier):
    """The same in compiled loops."""

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
