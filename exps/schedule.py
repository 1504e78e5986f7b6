"""How long tasks are trained, and when the synapses of a network grow or move within one: for the
run, and for who asks before it. No torch."""

from __future__ import annotations

import math

from exps.experiment import Experiment

MOVED = 0.3  # the share of synapses that set and rigl move
RIGL_EVERY = 100  # steps
UNTIL = 0.75  # of the steps of a task synapses grow, or move with rigl


def steps(exp: Experiment, task: int, epoch: int) -> int:
    """For how many steps a task (from 0) is trained, `epoch` of them an epoch."""
    given = exp.train_steps if task == 0 else exp.train_steps_inc
    return given or epoch * (exp.train_ep if task == 0 else exp.train_ep_inc)


def times(exp: Experiment, epoch: int, total: int) -> range:
    """The steps (from 0) before which synapses grow or move in a task of `total` steps, `epoch` of
    them an epoch."""
    end = math.ceil(UNTIL * total)
    if exp.dynamic == "grow":
        return range(0, end, exp.grow_every or max(total, 1))
    if exp.dynamic == "set":
        return range(epoch, total, epoch)
    return range(RIGL_EVERY, end, RIGL_EVERY) if exp.dynamic == "rigl" else range(0)


def share(exp: Experiment, step: int, total: int) -> float:
    """What share of its synapses a layer moves at one of these times, with set and rigl."""
    if exp.dynamic == "set":
        return MOVED
    # Falls by a cosine from 30 % to nothing.
    return MOVED / 2 * (1 + math.cos(math.pi * step / math.ceil(UNTIL * total)))
