"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

LEVELS = 2**16  # of the random numbers: p is rounded to a multiple of 1 / LEVELS


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU one 64-bit random number decides on four units.

    Srivastava et al., 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
    torch draws a Bernoulli number a unit there, which takes longer than a bf16 layer.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not (self.training and self.p):
            return dropout(x, self.p, self.training)
        return x * dropout_factors(x.shape, self.p).to(x.dtype)


def dropout_factors(shape: torch.Size, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p): float32 of this shape, from torch's generator."""
    drawn, least, factor = draws(shape, p)
    return (drawn >= least).float().mul_(factor)


def draws(
    shape: torch.Size, p: float, device: torch.device | None = None
) -> tuple[Tensor, int, float]:
    """Random numbers, int16 of this shape: units whose number is at least the second of these stay,
    times the third."""
    dropped = min(round(p * LEVELS), LEVELS - 1)
    bits = torch.empty(-(-shape.numel() // 4), dtype=torch.int64, device=device)
    bits.random_(-(2**63), None)
    drawn = bits.view(torch.int16)[: shape.numel()].view(shape)  # uniform, -LEVELS/2 to LEVELS/2
    return drawn, dropped - LEVELS // 2, LEVELS / (LEVELS - dropped)
