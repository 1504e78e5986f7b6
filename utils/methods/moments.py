"""Sums over pictures from which linear classifiers are computed in closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from exps.messages import Told

PANEL = 512  # columns of the sum of products that are held together
MOST = 2**14  # features whose products are held: a gigabyte; a checkpoint has room for it


class Linear(NamedTuple):
    """A classifier: features [n, units] -> features · weight [units, classes] + bias [classes];
    minus infinity for a class without pictures."""

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """[n, classes]."""
        return features @ self.weight.to(features.device) + self.bias.to(features.device)

    def of_more(self, classes: int) -> Linear:
        """The same for so many classes, the new ones behind."""
        more = classes - len(self.bias)
        return Linear(pad(self.weight, (0, more)), pad(self.bias, (0, more), value=-torch.inf))


class Moments:
    """Of the features f [units] of pictures of `classes` classes: how many there were, int64
    [classes], the sums of f, float64 [classes, units], and, with products, of f fᵀ: float64, the
    lower triangle alone, in panels of rows up to their diagonal.

    Sums are float64. A product of n pictures that are added together is computed in float32, so
    each of the sums is off by at most n · 2⁻²⁴ of the sum of its terms' absolute values, however
    many pictures there are. On a device without float64 (mps) sums are held by the processor.
    """

    def __init__(self, counts: Tensor, sums: Tensor, panels: list[Tensor]) -> None:
        self.counts, self.sums, self.panels = counts, sums, panels

    @classmethod
    def empty(cls, classes: int, units: int, *, products: bool) -> Moments:
        """Of no pictures, on the CPU."""

        def zeros(rows: int, columns: int) -> Tensor:
            return torch.zeros(rows, columns, dtype=torch.float64)

        starts = range(0, units, PANEL) if products else ()
        ends = ((start, min(start + PANEL, units)) for start in starts)
        panels = [zeros(end - start, end) for start, end in ends]
        return cls(torch.zeros(classes, dtype=torch.int64), zeros(classes, units), panels)

    def to(self, device: torch.device) -> Moments:
        """The same sums on a device, or where those of it are held."""
        where = torch.device("cpu") if device.type == "mps" else device
        panels = [panel.to(where) for panel in self.panels]
        return Moments(self.counts.to(where), self.sums.to(where), panels)

    def of_more(self, classes: int) -> Moments:
        """The same with so many classes, the new ones behind and without pictures."""
        more = classes - len(self.counts)
        return Moments(pad(self.counts, (0, more)), pad(self.sums, (0, 0, 0, more)), self.panels)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take in pictures: features float32 [n, units], labels int64 [n]."""
        f, labels = features.to(self.sums.device), labels.to(self.sums.device)
        of = one_hot(labels, len(self.counts))  # by index, a GPU adds in no order
        self.counts += of.sum(0)
        self.sums += of.t().double() @ f.double()
        for i, panel in enumerate(self.panels):
            rows, columns = panel.shape
            panel += f[:, i * PANEL : i * PANEL + rows].t() @ f[:, :columns]

    def __len__(self) -> int:
        """How many numbers are held."""
        return sum(t.numel() for t in (self.counts, self.sums, *self.panels))

    @property
    def means(self) -> Tensor:
        """Of every class, zero for one without pictures: float64 [classes, units]."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(1)

    def scatter(self, weights: Tensor, about: Tensor) -> Tensor:
        """Σ f fᵀ - Σ w m mᵀ [units, units], the lower triangle: weights w [n] of `about` m
        [n, units]."""
        units = self.sums.shape[1]
        found = self.sums.new_zeros(units, units)
        for i, panel in enumerate(self.panels):
            found[i * PANEL : i * PANEL + len(panel), : panel.shape[1]] = panel
        return found.addmm_(about.t() * weights.double(), about, alpha=-1)

    def classifier(self, weight: Tensor, bias: Tensor, device: torch.device) -> Linear:
        """Weight [units, classes] and bias [classes], in float32 on a device; classes without
        pictures are out of the question."""
        bias = bias.masked_fill(self.counts == 0, -torch.inf)
        return Linear(weight.float().to(device), bias.float().to(device))

    def state(self) -> dict[str, Any]:
        """All of it, as it is."""
        return {"counts": self.counts, "sums": self.sums, "panels": self.panels}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Moments:
        """Those that `state` was taken of."""
        counts, sums = state["counts"].clone(), state["sums"].clone()
        return cls(counts, sums, [panel.clone() for panel in state["panels"]])


def solved(matrix: Tensor, ridge: float, right: Tensor, cure: str) -> Tensor:
    """(matrix + ridge · I)⁻¹ right [units, n], by the lower triangle [units, units] alone, which is
    changed. Raises Told where that is not positive definite; cure: what to do then."""
    matrix.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise Told(
            "the classifier cannot be computed",
            f"feature {int(failed)} is a sum of others, to within rounding",
            cure,
        )
    return torch.cholesky_solve(right, factor)
