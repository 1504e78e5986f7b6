"""Finding a few winners among many units with bf16 products, and proving that none was missed.

Processors with bf16 instructions multiply several times faster in bf16 than in float32. A bf16
product differs from the exact one by a bounded amount, so it gives each unit an upper bound. The
exact values are then computed for the few units with the highest bounds alone; if the k-th largest
of them is above the bound of every unit left out, those k are the winners, exactly. Where that
cannot be shown, the sample is computed in full.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import linear

from utils.engine.winners import Winners, choose, choose_among, largest

ROUNDING = 2.0**-8  # largest relative error of rounding to bf16
# For every factor of a product that is rounded; the rest covers the products of errors and the
# float32 sums of up to a few thousand terms.
SLACK = 1.1 * ROUNDING
SPARE = 1.02  # that the bound itself is rounded to bf16
MORE = 8  # candidates for each winner, where the few of the first attempt leave doubt
TILE = 32  # columns that bf16 matrix instructions take at a time


def has_fast_bf16() -> bool:
    """Whether this processor multiplies in bf16 (AVX512-BF16 or AMX)."""
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())


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

    With exact false the bf16 products are taken for the values. Otherwise the bound of unit j on
    input x is its bf16 product plus slack·‖wⱼ‖·‖x‖ for every part w (Cauchy-Schwarz), all of it
    one matrix product: each part has a column for its norm. `refresh` follows changes of the parts.

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
        bound = torch.add(self.bias, self._products(x, scales), alpha=scales[0] * self.unit)
        if not self.exact:
            return choose(bound, boost, k)
        if boost is not None:
            bound.mul_(boost)
        # A product was rounded to bf16 before the bias came.
        rounding = 2 * ROUNDING * self.bias.abs().max()
        found, unsure = self._among(x, bound, k, k + 2, scales, boost, rounding)
        if len(unsure):
            found = self._mended(found, unsure, x, bound, k, scales, boost, rounding)
        return found

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

    def _mended(
        self,
        found: Winners,
        unsure: Tensor,
        x: Tensor,
        bound: Tensor,
        k: int,
        scales: list[float],
        boost: Tensor | None,
        rounding: Tensor,
    ) -> Winners:
        """The winners with those of unsure samples found among more candidates, or all units."""
        few = min(MORE * k, bound.shape[1] - 1)
        again, still = self._among(x[unsure], bound[unsure], k, few, scales, boost, rounding)
        if len(still):
            exact = choose(self._exact(x[unsure[still]], scales), boost, k)
            if exact.unit.shape[1] == again.unit.shape[1] == k:
                again.unit[still], again.value[still] = exact
            else:  # ties: some samples have more winners than others
                return choose(self._exact(x, scales), boost, k)
        if again.unit.shape[1] != found.unit.shape[1]:
            return choose(self._exact(x, scales), boost, k)
        found.unit[unsure], found.value[unsure] = again
        return found

    def _among(
        self,
        x: Tensor,
        bound: Tensor,
        k: int,
        candidates: int,
        scales: list[float],
        boost: Tensor | None,
        rounding: Tensor,
    ) -> tuple[Winners, Tensor]:
        """The winners among so many candidates, and for which samples [n] others may be above."""
        highest, unit = largest(bound, candidates + 1)
        ceiling = highest[:, -1] + 2 * ROUNDING * highest[:, -1].abs() + rounding
        unit = unit[:, :-1]
        values = self.bias[unit]
        for scale, part in zip(scales, self.parts, strict=True):
            values += some_products(x, part, unit) * scale
        boosted = values if boost is None else values * boost[unit]
        found, kth = choose_among(unit, values, boosted, k)
        return found, (~(kth > ceiling)).nonzero().flatten()

    def _exact(self, x: Tensor, scales: list[float]) -> Tensor:
        """All pre-activations [batch, units], in full precision."""
        total = self.bias.expand(len(x), -1).clone()
        for scale, part in zip(scales, self.parts, strict=True):
            total.addmm_(x, part.t(), alpha=scale)
        return total
