"""AdamW (Loshchilov & Hutter, 2019, "Decoupled weight decay regularization")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exps.facts import Findings
from utils.optimizers import adam

if TYPE_CHECKING:
    from torch import Tensor

    from exps.config import Experiment
    from utils.optimizers.base import Optimizer

KEYS = {
    "adam_beta1": adam.KEYS["adam_beta1"],
    "adam_beta2": adam.KEYS["adam_beta2"],
    "adam_eps": adam.KEYS["adam_eps"],
}


def doubts(exp: Experiment) -> Findings:
    """Why it might learn nothing."""
    yield from adam.large_steps(exp)


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.AdamW, as `adam` makes Adam."""
    return adam.of("AdamW", exp, parameters, fused=fused)
