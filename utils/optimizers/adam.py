"""Adam (Kingma & Ba, 2015, "Adam: A method for stochastic optimization").

Weight decay is an L2 penalty, added to the gradient; `adamw` takes it from the weights instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from exps.config import Experiment
from utils.optimizers.base import Optimizer, TorchOptimizer


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.Adam; fused: in one pass, which a CUDA graph can record."""
    return of(torch.optim.Adam, exp, parameters, fused=fused)


def of(
    kind: type[torch.optim.Adam], exp: Experiment, parameters: Sequence[Tensor], *, fused: bool
) -> Optimizer:
    """One of torch's Adams with the keys of this experiment."""
    recorded = fused and parameters[0].device.type == "cuda"
    return TorchOptimizer(
        kind(
            parameters,
            lr=exp.lr,
            betas=(exp.adam_beta1, exp.adam_beta2),
            eps=exp.adam_eps,
            weight_decay=exp.weight_decay,
            fused=fused,
            capturable=recorded,
        )
    )
