"""Finding a few winners among many units with bf16 products, and proving that none was missed.

Processors with bf16 instructions multiply several times faster in bf16 than in float32. A bf16
product differs from the exact one by a bounded amount, so it gives each unit an upper bound. The
exact values are then computed for the few units with the highest bounds alone; if the k-th largest
of them is above the bound of every unit left out, those k are the winners, exactly. Where that
cannot be shown, the sample is computed in full.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from utils.engine.winners import Winners, choose, choose_among, largest

ROUNDING = 2.0**-9  # largest relative error of rounding to bf16
# Both factors of a product are rounded; the rest covers the products of errors and the float32 sums
# of up to a few thousand terms, and that the bound itself is rounded to bf16.
SLACK = 2.2 * ROUNDING
SPARE = 1.02
TILE = 32  # columns that bf16 matrix instructions take at a time


def worthwhile(units: int, k: int) -> bool:
    """Whether bf16 is fast here, and the winners so few that computing them once more is cheap."""
    return has_fast_bf16() and k * 256 <= units


def has_fast_bf16() -> bool:
    """Whether this processor multiplies in bf16 (AVX512-BF16 or AMX)."""
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())


class Screen:
    """Upper bounds for the pre-activations of a layer, from weights kept in bf16.

    The bound of unit j on input x is w̃ⱼ·x̃ + SLACK·‖(wⱼ, bⱼ)‖·‖(x, 1)‖ (Cauchy-Schwarz), all of it
    one matrix product: bias, slack and norm are columns of their own.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        units, inputs = weight.shape
        self.weight, self.bias = weight, bias
        columns = -(-(inputs + 2) // TILE) * TILE
        self.half = torch.zeros(units, columns, dtype=torch.bfloat16)

    def refresh(self) -> None:
        """Follow the weights."""
        inputs = self.weight.shape[1]
        self.half[:, :inputs] = self.weight
        self.half[:, inputs] = self.bias
        norm = torch.linalg.vector_norm(self.half[:, : inputs + 1], dim=1)
        self.half[:, inputs + 1] = norm.mul_(SLACK * SPARE)

    def winners(self, x: Tensor, boost: Tensor | None, k: int) -> Winners:
        """What `choose` gives for the full product of x [batch, inputs], after `refresh`."""
        index, ceiling = self._candidates(x, boost, 2 * k)
        batch, inputs = x.shape
        rows = self.weight.index_select(0, index.flatten()).view(batch, 2 * k, inputs)
        values = torch.bmm(x.unsqueeze(1), rows.transpose(1, 2)).squeeze(1).add_(self.bias[index])
        boosted = values if boost is None else values * boost[index]
        found, kth = choose_among(index, values, boosted, k)
        unsure = (kth <= ceiling).nonzero().flatten()
        if len(unsure):
            exact = choose(linear(x[unsure], self.weight, self.bias), boost, k)
            if exact.unit.shape[1] != found.unit.shape[1]:  # ties: samples have more winners than k
                return choose(linear(x, self.weight, self.bias), boost, k)
            found.unit[unsure], found.value[unsure] = exact
        return found

    def _candidates(self, x: Tensor, boost: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """The units with the highest bounds [batch, count], and the next bound [batch]."""
        batch, inputs = x.shape
        half = torch.zeros(batch, self.half.shape[1], dtype=torch.bfloat16)
        half[:, :inputs] = x
        half[:, inputs] = 1
        norm = torch.linalg.vector_norm(x, dim=1)
        half[:, inputs + 1] = torch.hypot(norm, torch.ones(())).mul_(SPARE)
        bound = linear(half, self.half).float()
        if boost is not None:
            bound.mul_(boost)
        bound, index = largest(bound, count + 1)
        ceiling = bound[:, count]
        return index[:, :count], ceiling + 2 * ROUNDING * ceiling.abs()
