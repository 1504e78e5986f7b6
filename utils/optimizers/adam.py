"""Adam (Kingma & Ba, 2015, "Adam: A method for stochastic optimization").

Weight decay is an L2 penalty, added to the gradient; `adamw` takes it from the weights instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number

if TYPE_CHECKING:
    from torch import Tensor

    from exps.config import Experiment
    from utils.optimizers.base import Optimizer

MOST = 0.02  # a learning rate
KEYS = {
    "adam_beta1": Key(0.9, Number(0, 1, below=True), "decay of Adam's mean of the gradients"),
    "adam_beta2": Key(0.999, Number(0, 1, below=True), "decay of Adam's mean of their squares"),
    "adam_eps": Key(1e-8, Number(0, 1, above=True), "what is added to the root of that mean"),
}


def doubts(exp: Experiment) -> Findings:
    """Why it might learn nothing, or forget units."""
    yield from large_steps(exp)
    if exp.sparsify and exp.weight_decay:
        yield (
            ("weight_decay", "optimizer"),
            "adam divides the decay by its own size where there is no other gradient, so a unit "
            "that does not win fades with every step, by however little; choose weight_decay = 0, "
            "or optimizer = adamw",
        )


def large_steps(exp: Experiment) -> Findings:
    """Why it might learn nothing."""
    if exp.lr > MOST:
        yield (
            ("lr", "optimizer"),
            f"every step of {exp.optimizer} moves weights by about lr = {exp.lr:g}, and they are "
            "of that size themselves; 0.001 is usual",
        )


def make(exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """torch.optim.Adam; fused: in one pass, which a CUDA graph can record."""
    return of("Adam", exp, parameters, fused=fused)


def of(kind: str, exp: Experiment, parameters: Sequence[Tensor], *, fused: bool) -> Optimizer:
    """One of torch's Adams with the keys of this experiment."""
    from torch import optim  # which rules are asked without

    from utils.optimizers.base import TorchOptimizer, rate_of

    recorded = fused and parameters[0].device.type == "cuda"
    return TorchOptimizer(
        getattr(optim, kind)(
            parameters,
            lr=rate_of(exp, parameters) if recorded else exp.lr,
            betas=(exp.adam_beta1, exp.adam_beta2),
            eps=exp.adam_eps,
            weight_decay=exp.weight_decay,
            fused=fused,
            capturable=recorded,
        )
    )
