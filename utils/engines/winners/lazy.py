"""A matrix under SGD of which a step touches only a few entries: all others follow lazily.

Every weight is p + q in the basis of `utils.optimizers.sgd`, where a step is p' = λ₁·p + e₁·g and
q' = λ₂·q + e₂·g. All p share the factor λ₁ and all q the factor λ₂, so both are kept as a matrix
times one scalar: a step without a gradient is two products of scalars, however large the matrix is,
and a gradient entry is one addition to each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from models.synapses import Weights
from utils.engines.mixed import unmixed
from utils.optimizers.sgd import Basis

SMALLEST_SCALE = 1e-12  # one below this is multiplied into its matrix, long before fp32 overflows
NOTHING = 1e-30  # smaller parts are dropped then: far below rounding, and denormals are slow


class LazyMatrix:
    """A weight matrix [rows, columns] = scale₁·P + scale₂·Q under SGD, at the cost of what is
    touched.

    Which rows are read and which entries change is up to the caller; everything else follows
    exactly.
    """

    def __init__(
        self,
        weight: Tensor,
        momentum: Tensor | None,
        basis: Basis,
        memory: Sequence[Tensor] | None = None,
    ) -> None:
        """weight, momentum (None: zero): float32 [rows, columns]; both are copied. memory: where
        the parts are to be, in the shape of the weight."""
        self.basis = basis
        count = 2 if basis.decay[1] else 1
        self.scale = [1.0] * count
        if memory is None:
            self.stacked = torch.empty((count, *weight.shape), dtype=weight.dtype)
        self.parts = list(self.stacked if memory is None else memory)
        self._split(weight, momentum)

    def _split(self, weight: Tensor, momentum: Tensor | None) -> None:
        """Make parts of scale 1 of weights and momenta."""
        slope1, slope2 = self.basis.slope
        self.parts[0].copy_(weight)
        if len(self.parts) == 2:
            torch.mul(self.parts[0], self.basis.share, out=self.parts[1])
            if momentum is not None:
                self.parts[1].add_(momentum, alpha=1 / (slope2 - slope1))
            self.parts[0].sub_(self.parts[1])

    @property
    def columns(self) -> int:
        """The length of a row."""
        return self.parts[0].shape[1]

    def step(self) -> bool:
        """One step of SGD for all entries; gradients are added afterwards.

        Returns whether a part was rewritten to bring its scale back to 1.
        """
        rescaled = False
        for i, part in enumerate(self.parts):
            self.scale[i] *= self.basis.decay[i]
            if self.scale[i] < SMALLEST_SCALE:
                rescaled = True
                torch.hardshrink(part, NOTHING / self.scale[i], out=part)
                part.mul_(self.scale[i])
                self.scale[i] = 1.0
        return rescaled

    def gains(self) -> list[float]:
        """What of a gradient goes into each part as it is now."""
        return [gain / scale for gain, scale in zip(self.basis.gain, self.scale, strict=False)]

    def restart(self) -> None:
        """Momentum starts from zero; the weights stay, to the bit where they are not scaled."""
        if len(self.parts) > 1:
            weight = self.weight()
            torch.mul(weight, self.basis.share, out=self.parts[1])
            torch.sub(weight, self.parts[1], out=self.parts[0])
            self.scale = [1.0] * len(self.parts)

    def take_over(self, weight: Tensor) -> None:
        """Make these [rows, columns] the weights; momenta stay as they are."""
        change = weight - self.weight()
        if len(self.parts) > 1:
            self.parts[1].add_(change, alpha=self.basis.share / self.scale[1])
            change *= 1 - self.basis.share
        self.parts[0].add_(change, alpha=1 / self.scale[0])

    def hide(self, zero: Tensor) -> None:
        """Make weights and momenta zero where bool [rows, columns] says so."""
        for part in self.parts:
            part.masked_fill_(zero, 0)

    def mix(self) -> list[float]:
        """What the weights and momenta are of the parts, for `mixed`: exact, unlike themselves."""
        if len(self.parts) == 1:
            return [self.scale[0], 0.0, 0.0, 1.0]
        (scale1, scale2), (slope1, slope2) = self.scale, self.basis.slope
        return [scale1, scale2, scale1 * slope1, scale2 * slope2]

    def restore(self, first: Tensor, second: Tensor | None, mix: list[float]) -> None:
        """Continue with the weights and momenta that `mixed` means by these, each [rows, columns]:
        exactly where `parts` and `mix` of such a matrix are given, else up to rounding.
        """
        before, self.scale = self.scale, mix[: len(self.scale)]
        if self.mix() == mix and len(self.parts) == 2 and second is not None:
            self.parts[0].copy_(first)
            self.parts[1].copy_(second)
        elif self.mix() == mix and len(self.parts) == 1:
            self.parts[0].copy_(first)
        else:
            self.scale = [1.0] * len(before)
            self._split(*unmixed(first, second, mix))

    def rows_sum(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Σᵢ factors[:, i] · weight[rows[:, i]]: [batch, columns], for rows, factors [batch, n]."""
        on = factors != 0  # dropout leaves a part of them
        ends = on.sum(1).cumsum(0)
        starts = nn.functional.pad(ends[:-1], (1, 0))
        rows, factors = rows[on].unsqueeze(1), factors[on].unsqueeze(1)
        parts, count, columns = self.stacked.shape
        return embedding_bag(
            (rows + torch.arange(parts) * count).flatten(),
            self.stacked.view(-1, columns),
            starts * parts,
            mode="sum",
            per_sample_weights=(factors * factors.new_tensor(self.scale)).flatten(),
        )

    def weight(self) -> Tensor:
        """All weights, a new float32 [rows, columns]."""
        total = self.parts[0] * self.scale[0]
        return total.add_(self.parts[1], alpha=self.scale[1]) if len(self.parts) > 1 else total


class LazyLayer:
    """Of layers whose weights a matrix holds, and that hold them in a third form, which follows."""

    weights: Weights
    matrix: LazyMatrix

    def refresh(self) -> None:
        """Follow the matrix in all its rows."""
        raise NotImplementedError

    @torch.no_grad()
    def restart(self) -> None:
        """Momentum starts from zero."""
        self.matrix.restart()
        self.refresh()

    @torch.no_grad()
    def follow_mask(self) -> None:
        """Take over the model's weights; make zero what the mask hides, and its momentum."""
        if self.weights.zero_mask is not None:
            self.matrix.take_over(self.weights.weight)
            self.matrix.hide(self.weights.zero_mask)
            self.refresh()

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the weights into the model."""
        self.weights.weight.copy_(self.matrix.weight())
