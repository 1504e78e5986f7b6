"""Synapses that come and go: growth, and the rewiring of SET and RigL at constant density.

grow: every unit gets the same number of new synapses, at the start of a task and then on a schedule
until three quarters of it. set: Mocanu et al., 2018, "Scalable training of artificial neural
networks with adaptive sparse connectivity": after every epoch the weakest 30 % of a layer's
synapses move to random places. rigl: Evci et al., 2020, "Rigging the lottery": every 100 steps, a
share that falls from 30 % to nothing by a cosine, to where the gradient is largest, until three
quarters of the training. New synapses are zero at first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from exps.config import Experiment
from models.mlp import MLP
from models.sparse import SparseWeights

MOVED = 0.3  # the share of synapses that set and rigl move
RIGL_EVERY = 100  # steps
UNTIL = 0.75  # of the steps of a task synapses grow or move
DRAW = 3  # sets the draws of places apart from whatever else is drawn from the seed


class Moment(NamedTuple):
    """The step of a task that comes next (from 0), of `total`, `epoch` of them an epoch."""

    step: int
    epoch: int
    total: int


def layers(model: MLP) -> list[SparseWeights]:
    """The layers whose synapses grow or move: the fully connected hidden ones."""
    found = [block.linear for block in model.blocks]
    return [layer for layer in found if isinstance(layer, SparseWeights)]


def growth_due(exp: Experiment, now: Moment, inputs: int) -> int:
    """How many synapses a unit with so many inputs is to be given before this step."""
    every = exp.grow_every or now.total
    times = range(0, math.ceil(UNTIL * now.total), every)
    if exp.dynamic != "grow" or now.step not in times:
        return 0
    done = times.index(now.step)
    so_far = [round(inputs * exp.grow_per_task * n / len(times)) for n in (done, done + 1)]
    return so_far[1] - so_far[0]


def share_due(exp: Experiment, now: Moment) -> float:
    """What share of its synapses a layer is to move before this step, with set and rigl."""
    end = math.ceil(UNTIL * now.total)
    if exp.dynamic == "set":
        return MOVED if now.step and now.step % now.epoch == 0 else 0.0
    if exp.dynamic == "rigl" and 0 < now.step < end and now.step % RIGL_EVERY == 0:
        return MOVED / 2 * (1 + math.cos(math.pi * now.step / end))
    return 0.0


def is_due(exp: Experiment, now: Moment, model: MLP) -> bool:
    """Whether synapses are to grow or move before this step."""
    counts = [growth_due(exp, now, layer.zero_mask.shape[1]) for layer in layers(model)]
    return any(counts) or share_due(exp, now) > 0


def scores(
    kind: str, model: MLP, bare: MLP, x: Tensor, labels: Tensor, head: int, seed: list[int]
) -> list[Tensor]:
    """How useful a synapse would be at every place of each layer: [outputs, inputs], at least 0.

    kind: gradient: the size of the loss's gradient; coactivation: the mean of the input's absolute
    value where the unit is on; random. bare: the model without its masks (see `without_masks`).
    Ties are broken at random.
    """
    draw = np.random.SeedSequence([DRAW, *seed]).generate_state(1, np.uint64).item()
    generator = torch.Generator().manual_seed(draw)
    weights = [layer.weight for layer in layers(model)]
    chance = [torch.rand(w.shape, generator=generator).to(w.device) for w in weights]
    if kind == "random":
        return chance
    model.eval()
    bare.eval()
    if kind == "gradient":
        loss = cross_entropy(bare(x, head), labels)
        found = [g.abs() for g in torch.autograd.grad(loss, weights)]
    else:
        found = _coactivation(model, x)
    return [f / f.max().clamp(min=1e-30) + 1e-6 * c for f, c in zip(found, chance, strict=True)]


@torch.no_grad()
def _coactivation(model: MLP, x: Tensor) -> list[Tensor]:
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def note_input(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0])

    def note_output(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    blocks = [block for block in model.blocks if isinstance(block.linear, SparseWeights)]
    handles = [block.linear.register_forward_pre_hook(note_input) for block in blocks]
    handles += [block.activation.register_forward_hook(note_output) for block in blocks]
    model.features(x)
    for handle in handles:
        handle.remove()
    pairs = zip(inputs, outputs, strict=True)
    return [(after != 0).float().t() @ before.abs() / len(x) for before, after in pairs]


@torch.no_grad()
def grow(zero_mask: Tensor, score: Tensor, count: int, most: int) -> int:
    """Give every unit `count` synapses where the score is highest; how many that is in all.

    zero_mask bool [outputs, inputs] is changed. No unit gets more than `most` altogether.
    """
    has = int((~zero_mask).sum(1).max())
    count = min(count, most - has)
    if count <= 0:
        return 0
    before = int(zero_mask.sum())
    places = score.masked_fill(~zero_mask, -1).topk(count, 1).indices
    zero_mask.scatter_(1, places, False)
    return before - int(zero_mask.sum())


@torch.no_grad()
def change(exp: Experiment, now: Moment, layer: SparseWeights, score: Tensor) -> None:
    """Let the synapses of a layer grow or move as this moment asks."""
    inputs = layer.zero_mask.shape[1]
    if exp.dynamic == "grow":
        most = round(inputs * exp.max_density_fc)
        grow(layer.zero_mask, score, growth_due(exp, now, inputs), most)
    else:
        move(layer, score, share_due(exp, now))


@torch.no_grad()
def move(layer: SparseWeights, score: Tensor, share: float) -> int:
    """Move this share of the layer's synapses, the weakest, to where the score is highest.

    Old synapses (`used`, where the layer has it) stay. How many were moved.
    """
    mask, fixed = layer.zero_mask, layer.zero_mask.clone()
    used = dict(layer.named_buffers(recurse=False)).get("used")
    if used is not None:
        fixed |= used > 0
    count = min(round(share * int((~mask).sum())), int((~fixed).sum()), int(mask.sum()))
    if count:
        size = layer.weight.abs().masked_fill(fixed, torch.inf).flatten()
        free = score.masked_fill(~mask, -1).flatten().topk(count, sorted=False).indices
        mask.view(-1)[size.topk(count, largest=False, sorted=False).indices] = True
        mask.view(-1)[free] = False
    return count
