"""The first layer with one product of rounded weights, as int8 or in bf16.

The weights are scale · (P + ratio · Q), as `lazy` holds them, and the ratio falls with every step.
One rounded copy stays good for many steps: rows are rounded anew when they get a gradient or when
the ratio has moved them noticeably. Every row knows how far what was rounded is from what it is.

In float32 the product of int8, which is exact, gives an upper bound of each unit by the inequality
of Cauchy and Schwarz, and the exact values of the few highest prove that no other unit can win.
With precision = bf16 the bf16 products are the values.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from models.synapses import Weights
from utils.engines.winners.choose import Winners, choose
from utils.engines.winners.compiled import Array, array, loops, numbers
from utils.engines.winners.lazy import LazyLayer, LazyMatrix
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis

NOTHING = np.empty((0, 0), np.float32)
NO_MASK = np.empty((0, 0), np.bool_)


class RoundedLayer(LazyLayer):
    """int8 or bf16 products, and SGD on the rows of winners alone (see `lazy`).

    half: in bf16, and the products are the values. grain: what every input is a multiple of, 0 to
    255 times, so that it is not rounded at all; otherwise 0.
    """

    def __init__(
        self, weights: Weights, sgd: SGD, basis: Basis, *, half: bool, grain: float
    ) -> None:
        self.weights, self.sgd, self.half, self.grain = weights, sgd, half, grain
        self.matrix = LazyMatrix(weights.weight.detach(), None, basis)
        kind = torch.bfloat16 if half else torch.int8
        self.rounded = torch.empty(weights.weight.shape, dtype=kind)
        self.facts = weights.weight.detach().new_zeros(len(self.rounded), len(loops().FACTS))
        self.refresh()

    def train_winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """The k-winners of x [batch, inputs]."""
        bias, units = self.weights.bias, len(self.rounded)
        ranked = array(boost if boost is not None else torch.ones(units))
        unit, value = torch.empty((len(x), k), dtype=torch.int64), x.new_empty(len(x), k)
        mix, on = self._mix(), (array(unit), array(value))
        if self.half:
            products = array(linear(x.bfloat16(), self.rounded).view(torch.int16))
            good = loops().choose_half(products, mix, array(bias), ranked, *on)
        else:
            whole, norms = torch.empty(x.shape, dtype=torch.int8), x.new_empty(len(x), 2)
            grid = self._grid(x)
            loops().round_inputs(array(x), grid, array(whole), array(norms))
            sums = array(torch._int_mm(whole, self.rounded.t()))
            seen = array(x), array(norms)
            facts = array(self.facts)
            good = loops().choose_bounded(
                sums, seen, grid, self._parts(), mix, array(bias), ranked, facts, on
            )
        if good:
            return Winners(unit, value)
        full = linear(x, self.matrix.weight(), bias)
        return choose(full, boost, k, break_ties=self.half)

    test_winners = train_winners

    def backward(self, x: Tensor, winners: Tensor, gradient: Tensor) -> None:
        """The SGD step for the gradient [batch, k] of the winners' pre-activations."""
        bias = self.sgd.gradient(self.weights.bias).zero_()
        bias.index_add_(0, winners.flatten(), gradient.flatten())
        rescaled, self.moved = self.matrix.step(), True
        mask, factors = self.weights.zero_mask, self.sgd.factors.get(self.weights.weight)
        loops().descend(
            array(x),
            array(winners),
            array(gradient),
            NO_MASK if mask is None else array(mask),
            NOTHING if factors is None else array(factors),
            self._parts(),
            numbers(x, *self.matrix.gains(), 0.0)[:2],
            self._mix(),
            self._rounded(),
            array(self.facts),
        )
        if rescaled:
            self.refresh()

    def refresh(self, ratios: Tensor | None = None) -> None:
        """Follow the matrix in all its rows; ratios: as they were, if it is as it was then."""
        self.moved = aimed = ratios is not None
        if ratios is not None:
            self.facts[:, loops().RATIO] = ratios
        facts = array(self.facts)
        loops().round_rows(self._parts(), self._mix(), self._rounded(), facts, aimed)

    @property
    def ratios(self) -> Tensor | None:
        """Of the parts, in every row as it is rounded [units]; None: as `refresh` has them."""
        return self.facts[:, loops().RATIO].clone() if self.moved else None

    def _parts(self) -> tuple[Array, Array]:
        """P and Q; without momentum P again, of which nothing is added."""
        parts = self.matrix.parts
        return array(parts[0]), array(parts[-1])

    def _mix(self) -> Array:
        """The first scale, and the second as a multiple of it."""
        first, *second = self.matrix.scale
        return numbers(self.facts, first, *(s / first for s in second), 0.0)[:2]

    def _rounded(self) -> Array:
        return array(self.rounded.view(torch.int16) if self.half else self.rounded)

    def _grid(self, x: Tensor) -> Array:
        """Of which number on in which steps 256 of them reach every input."""
        if self.grain:
            return numbers(x, 0.0, self.grain)
        low, high = map(float, x.aminmax())
        return numbers(x, low, max((high - low) / 255, 1e-30))
