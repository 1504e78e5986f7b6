"""The learning rate of every step, as a share of lr: a function of where the step is, and nothing
else, so that a run that goes on has it too."""

from __future__ import annotations

import math

from exps.config import Experiment
from utils.training.record import Length


def is_constant(exp: Experiment) -> bool:
    """Whether every step has the same."""
    return exp.lr_schedule == "constant" and not exp.lr_warmup


def share(exp: Experiment, lengths: list[Length], task: int, step: int) -> float:
    """Of lr for a step (from 0) of a task (from 0)."""
    totals = [length.total for length in lengths]
    if exp.lr_restart == "task":
        return falling(exp, step, totals[task])
    return falling(exp, sum(totals[:task]) + step, sum(totals))


def falling(exp: Experiment, step: int, total: int) -> float:
    """Of lr for a step (from 0) of so many: in even strides up to lr in the first lr_warmup, and
    from there as lr_schedule says. cosine: ½·(1 + cos(π·t/T)) after t of T steps (Loshchilov &
    Hutter, 2017, "SGDR: stochastic gradient descent with warm restarts"); step: lr_gamma times as
    much from each of lr_steps on."""
    done, left, scheduled = step - exp.lr_warmup, max(total - exp.lr_warmup, 1), 1.0
    if exp.lr_schedule == "cosine":
        scheduled = (1 + math.cos(math.pi * done / left)) / 2
    elif exp.lr_schedule == "step":
        scheduled = exp.lr_gamma ** sum(done >= round(at * left) for at in exp.lr_steps)
    return scheduled if done >= 0 else (step + 1) / exp.lr_warmup
