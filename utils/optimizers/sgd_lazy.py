"""SGD in which a weight without a gradient rests: neither momentum nor decay moves it.

With momentum a weight goes on moving for some ten steps after the last one in which its unit won.
Where few units win that is "stale momentum", which drags units away from what they stand for
(Bricken et al., 2023, "Sparse distributed memory is a continual learner"). Here momentum is that of
the steps in which there was a gradient, as in torch's SparseAdam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.optimizers import sgd
from utils.optimizers.sgd import contradictions

if TYPE_CHECKING:
    from torch import Tensor

    from exps.config import Experiment
    from utils.optimizers.base import Optimizer

__all__ = ["contradictions", "make"]

KEYS = {
    "momentum": sgd.KEYS["momentum"],
    "nesterov": sgd.KEYS["nesterov"],
}


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """The rule of `sgd` for every weight with a gradient that is not zero."""
    from utils.optimizers import momentum  # torch comes with it, and rules are asked without

    return momentum.made_lazy(exp, parameters)
