"""Finding a few winners among many units with bf16 products, and proving that none was missed.

Processors with bf16 instructions multiply several times faster in bf16 than in float32. A bf16
product differs from the exact one by a bounded amount, so it gives each unit an upper bound. The
exact values are then computed for the few units with the highest bounds alone; if the k-th largest
of them is above the bound of every unit left out, those k are the winners, exactly. Where that
cannot be shown, the sample is computed in full.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from utils.engines.winners.choose import Winners, choose, choose_among, largest

ROUNDING = 2.0**-8  # largest relative error of rounding to bf16
# For every factor of a product that is rounded; the rest covers the products of errors and the
# float32 sums of up to a few thousand terms.
SLACK = 1.1 * ROUNDING
SPARE = 1.02  # that the bound itself is rounded to bf16
SPARE_UNITS = 2  # candidates besides as many as win, at the first attempt
MORE = 8  # candidates for each winner, where the few of the first attempt leave doubt
TILE = 32  # columns that bf16 matrix instructions take at a time


class _Asked(NamedTuple):
    """For which samples winners are wanted: inputs x [batch, inputs], the (boosted) bounds
    [batch, units], the scales of the parts, boost [units] or None, and how many win; rounding: how
    far above its bound a value may still lie.
    """

    x: Tensor
    bound: Tensor
    scales: list[float]
    boost: Tensor | None
    k: int
    rounding: Tensor

    @property
    def units(self) -> int:
        return self.bound.shape[1]

    def of(self, samples: Tensor) -> _Asked:
        """The same for some of the samples, int64 [n]."""
        return self._replace(x=self.x[samples], bound=self.bound[samples])


def some_products(x: Tensor, weights: Tensor, unit: Tensor) -> Tensor:
    """x[b] · weights[unit[b, c]] for all b and c, [batch, candidates], without copies of rows.

    x [batch, inputs], weights [units, inputs], unit int64 [batch, candidates].
    """
    batch, candidates = unit.shape
    if not candidates:
        return x.new_zeros(unit.shape)
    starts = torch.arange(0, unit.numel() + 1, candidates)
    wanted = torch.sparse_csr_tensor(
        starts,
        unit.flatten(),
        x.new_zeros(unit.numel()),
        (batch, len(weights)),
        check_invariants=False,
    )
    return torch.sparse.sampled_addmm(wanted, x, weights.t(), beta=0.0).values().view_as(unit)


with warnings.catch_warnings():  # torch says once that its sparse tensors are in beta state
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [0.0], (1, 1))


class Screen:
    """Winners of a layer whose weights [units, inputs] are a sum of parts with a scale each.

    With exact false the bf16 products are taken for the values, and ties are broken. Otherwise the
    bound of unit j on input x is its bf16 product plus slack·‖wⱼ‖·‖x‖ for every part w (Cauchy-
    Schwarz), all of it one matrix product: each part has a column for its norm. `refresh` follows
    changes of the parts.

    grain: if every x is a multiple of it, from 0 to 256 times (as pixels are), x in these units is
    not rounded at all; the bounds are then nearly half as far away. Otherwise 0.
    """

    def __init__(
        self, parts: list[Tensor], bias: Tensor, *, exact: bool, grain: float = 0.0
    ) -> None:
        self.parts, self.bias, self.exact = parts, bias, exact
        self.unit = grain or 1.0
        # The first part is multiplied by x itself, the others by x times the ratio of their scales.
        self.slack = [SLACK * (1 if grain and i == 0 else 2) for i in range(len(parts))]
        units, self.inputs = parts[0].shape
        self.columns = -(-(self.inputs + 1) // TILE) * TILE
        self.half = torch.zeros(units, self.columns * len(parts), dtype=torch.bfloat16)
        self.refresh()

    def refresh(self, rows: Tensor | None = None) -> None:
        """Follow the parts, in all rows or in these int64 [n]; rows may repeat."""
        halves = self.half.split(self.columns, 1)
        for part, half, slack in zip(self.parts, halves, self.slack, strict=True):
            changed = part if rows is None else part.index_select(0, rows)
            norm = torch.linalg.vector_norm(changed, dim=1).mul_(slack * SPARE)
            if rows is None:
                half[:, : self.inputs] = changed
                half[:, self.inputs] = norm
            else:
                half[:, : self.inputs].index_copy_(0, rows, changed.bfloat16())
                half[:, self.inputs].index_copy_(0, rows, norm.bfloat16())

    def winners(self, x: Tensor, scales: list[float], boost: Tensor | None, k: int) -> Winners:
        """The k-winners of x [batch, inputs], with `boost` [units] or None as in `choose`."""
        products, scale = self._products(x, scales), scales[0] * self.unit
        if not self.exact or boost is None:
            bound = torch.add(self.bias, products, alpha=scale)
        else:
            bound = torch.addcmul(self.bias * boost, products.float(), boost, value=scale)
        if not self.exact:
            return choose(bound, boost, k, break_ties=True)
        # A product was rounded to bf16 before the bias came.
        asked = _Asked(x, bound, scales, boost, k, 2 * ROUNDING * self.bias.abs().max())
        if k + SPARE_UNITS >= asked.units:  # in evaluation more may win than in training
            return self._in_full(asked)
        found, unsure = self._among(asked, k + SPARE_UNITS)
        return self._mended(found, unsure, asked) if len(unsure) else found

    def _products(self, x: Tensor, scales: list[float]) -> Tensor:
        """bf16 [batch, units]: bounds or values, without the bias and the first scale."""
        half = torch.zeros(len(x), self.half.shape[1], dtype=torch.bfloat16)
        norm = torch.linalg.vector_norm(x, dim=1).mul_(SPARE) if self.exact else None
        for scale, columns in zip(scales, half.split(self.columns, 1), strict=True):
            factor = scale / scales[0] / self.unit
            torch.mul(x, factor, out=columns[:, : self.inputs])
            if norm is not None:
                columns[:, self.inputs] = norm * factor
        return linear(half, self.half)

    def _mended(self, found: Winners, unsure: Tensor, asked: _Asked) -> Winners:
        """The winners with those of unsure samples found among more candidates, or all units."""
        again, still = self._among(asked.of(unsure), min(MORE * asked.k, asked.units - 1))
        if len(still):
            exact = self._in_full(asked.of(unsure[still]))
            if exact.unit.shape[1] == again.unit.shape[1] == asked.k:
                again.unit[still], again.value[still] = exact
            else:  # ties: some samples have more winners than others
                return self._in_full(asked)
        if again.unit.shape[1] != found.unit.shape[1]:
            return self._in_full(asked)
        found.unit[unsure], found.value[unsure] = again
        return found

    def _among(self, asked: _Asked, candidates: int) -> tuple[Winners, Tensor]:
        """The winners among so many candidates, and for which samples [n] others may be above."""
        highest, unit = largest(asked.bound, candidates + 1)
        ceiling = highest[:, -1] + 2 * ROUNDING * highest[:, -1].abs() + asked.rounding
        unit = unit[:, :-1]
        values = self.bias[unit]
        for scale, part in zip(asked.scales, self.parts, strict=True):
            values += some_products(asked.x, part, unit) * scale
        boosted = values if asked.boost is None else values * asked.boost[unit]
        found, kth = choose_among(unit, values, boosted, asked.k)
        return found, (~(kth > ceiling)).nonzero().flatten()

    def _in_full(self, asked: _Asked) -> Winners:
        """The winners among all units, in full precision."""
        total = self.bias.expand(len(asked.x), -1).clone()
        for scale, part in zip(asked.scales, self.parts, strict=True):
            total.addmm_(asked.x, part.t(), alpha=scale)
        return choose(total, asked.boost, asked.k)
