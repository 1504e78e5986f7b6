"""AdamW (Loshchilov & Hutter, 2019, "Decoupled weight decay regularization")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from exps.config import Experiment
from utils.optimizers import adam
from utils.optimizers.base import Optimizer


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.AdamW, as `adam` makes Adam."""
    return adam.of(torch.optim.AdamW, exp, parameters, fused=fused)
