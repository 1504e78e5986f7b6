"""The first layer of a k-winner network: a dense input, of whose products only a few matter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from utils.engine.screen import Screen, worthwhile
from utils.engine.sgd import SGD
from utils.engine.weights import Weights
from utils.engine.winners import Winners, choose


class FirstLayer:
    """Weights [units, inputs], which momentum and weight decay move all in every step."""

    def __init__(self, weights: Weights, sgd: SGD, precision: str) -> None:
        self.weights, self.sgd, self.precision = weights, sgd, precision
        self.touched = torch.zeros(0, dtype=torch.int64)
        self.screen = Screen(weights.weight, weights.bias)
        self.half = weights.weight.detach().bfloat16()
        self.stale = True

    def winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The k-winners of x [batch, inputs]."""
        weight, bias, _ = self.weights
        if self.precision == "bf16":
            if self.stale:
                self.half.copy_(weight)
                self.stale = False
            return choose(linear(x.bfloat16(), self.half).float().add_(bias), boost, k)
        if not worthwhile(len(weight), k):
            return choose(linear(x, weight, bias), boost, k)
        if self.stale:
            self.screen.refresh()
            self.stale = False
        return self.screen.winners(x, boost, k)

    def backward(self, x: Tensor, winners: Tensor, gradient: Tensor) -> None:
        """Note the gradient [batch, k] of the winners' pre-activations for the next SGD step."""
        bias = self.sgd.gradient(self.weights.bias).zero_()
        bias.index_add_(0, winners.flatten(), gradient.flatten())
        some = gradient.flatten().nonzero().flatten()  # dropout leaves a part of them
        rows = winners.flatten()[some]
        shares = gradient.flatten()[some].unsqueeze(1) * x[some // winners.shape[1]]
        if self.weights.zero_mask is not None:
            shares.masked_fill_(self.weights.zero_mask[rows], 0)
        total = self.sgd.gradient(self.weights.weight)
        total.index_fill_(0, self.touched, 0)  # what the step before left there
        total.index_add_(0, rows, shares)  # shares: [touched, inputs]
        self.touched = rows

    def changed(self) -> None:
        """The weights are others now."""
        self.stale = True
