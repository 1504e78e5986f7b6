"""SET and RigL: synapses that move, at constant density.

SET (Mocanu et al., 2018, "Scalable training of artificial neural networks with adaptive sparse
connectivity"): after every epoch the weakest 30 % of a layer's synapses move to random places. RigL
(Evci et al., 2020, "Rigging the lottery"): every 100 steps, a share that falls from 30 % to nothing
by a cosine, to where the gradient is largest, until three quarters of the training; one that
was dropped for its weight may grow back for its gradient, and then keeps it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings, Layer
from models.blocks import Block
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.methods import changing
from utils.methods.base import Moment
from utils.methods.changing import LENGTH, NEVER, UNTIL, Synapses, contradictions, inputs, masked

__all__ = ["Method", "contradictions", "move", "never_due"]

MOVED = 0.3  # the share of synapses that set and rigl move
RIGL_EVERY = 100  # steps


def never_due(exp: Experiment, tasks: list[tuple[int, int]], layers: list[Layer]) -> Findings:
    """What never moves in tasks of so many steps an epoch and in all."""
    longest = max(total for _, total in tasks)
    units = layers[-1].units
    synapses = units * max(round(n * exp.initial_density_fc) for n in inputs(layers))
    first = [(times(exp, *task)[:1], task[1]) for task in tasks]
    if any(round(synapses * share(exp, at, total)) for some, total in first for at in some):
        return
    if exp.dynamic == "set":
        yield (
            ("dynamic", "train_ep", "train_ep_inc"),
            "synapses move after every epoch of a task but its last, so here none ever does; "
            "train a task for two epochs or more",
        )
    else:
        yield (
            ("dynamic", *LENGTH),
            f"synapses move every {RIGL_EVERY} steps until three quarters of a task, and "
            f"none has more than {longest:,} steps here, so none ever does; train for longer, or "
            "in smaller mini-batches",
        )


def times(exp: Experiment, epoch: int, total: int) -> range:
    """The steps (from 0) before which synapses move in a task of `total` steps, `epoch` of them an
    epoch."""
    if exp.dynamic == "set":
        return range(epoch, total, epoch)
    return range(RIGL_EVERY, math.ceil(UNTIL * total), RIGL_EVERY)


def share(exp: Experiment, step: int, total: int) -> float:
    """What share of its synapses a layer moves at one of these times."""
    if exp.dynamic == "set":
        return MOVED
    # Falls by a cosine from 30 % to nothing.
    return MOVED / 2 * (1 + math.cos(math.pi * step / math.ceil(UNTIL * total)))


class Method(changing.Changing):
    """Moves the weakest synapses as `dynamic = set` or `rigl` says."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.score = "gradient" if exp.dynamic == "rigl" else "random"

    def due(self, now: Moment, layer: SparseWeightsBase) -> float:
        """What share of its synapses a layer is to move before this step."""
        if now.step not in times(self.exp, now.epoch, now.total):
            return 0.0
        return share(self.exp, now.step, now.total)

    @torch.no_grad()
    def change(self, block: Block, due: float, score: Tensor, generator: torch.Generator) -> None:
        """Move this share of the layer's synapses."""
        chance = torch.rand(score.shape, generator=generator).to(score.device)
        with Synapses.of(masked(block)) as its:  # ties fall at random
            move(its, score + NEVER * chance, due, back=self.exp.dynamic == "rigl")


@torch.no_grad()
def move(its: Synapses, score: Tensor, share: float, *, back: bool = True) -> int:
    """Move this share of the layer's synapses, the weakest, to where the score is highest.

    back: one that was dropped may grow back at once, and then stays as it was. Old synapses (see
    `old_synapses`) stay. How many are at another place.
    """
    mask, before, used = its.zero_mask, its.zero_mask.clone(), its.used
    fixed = mask if used is None else mask | (used > 0)
    count = min(round(share * int((~mask).sum())), int((~fixed).sum()))
    if not back:
        count = min(count, int(mask.sum()))
    if count:
        size = its.weight.abs().masked_fill(fixed, torch.inf).flatten()
        mask.view(-1)[size.topk(count, largest=False, sorted=False).indices] = True
        free = score.masked_fill(~(mask if back else before), -1).flatten()
        mask.view(-1)[free.topk(count, sorted=False).indices] = False
    return int((before & ~mask).sum())
