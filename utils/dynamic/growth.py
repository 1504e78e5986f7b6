"""Synapses that come and go: growth, and the rewiring of SET and RigL at constant density.

grow: at the start of a task and then on a schedule until three quarters of it. Either every unit
gets the same number of new synapses, or every task wires up fresh units, each in full, and leaves
the others as they are; in the end fan-in is even in both. set: Mocanu et al., 2018, "Scalable
training of artificial neural networks with adaptive sparse connectivity": after every epoch the
weakest 30 % of a layer's synapses move to random places. rigl: Evci et al., 2020, "Rigging the
lottery": every 100 steps, a share that falls from 30 % to nothing by a cosine, to where the
gradient is largest, until three quarters of the training; one that was dropped for its weight may
grow back for its gradient, and then keeps it. New synapses are zero at first, but for those of
fresh units, which would never win. When: `exps.schedule`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from exps import schedule
from exps.config import Experiment
from models.blocks import Block
from models.k_winners import KWinners
from models.mlp import MLP
from models.sparse import SparseWeights

NEVER = 1e-6  # the part of the highest score that chance alone has
DRAW = 3  # sets the draws of places apart from whatever else is drawn from the seed


class Moment(NamedTuple):
    """The step of a task that comes next (from 0), of `total`, `epoch` of them an epoch."""

    step: int
    epoch: int
    total: int


def blocks(model: MLP) -> list[Block]:
    """The hidden blocks whose synapses grow or move: those of masked, fully connected layers."""
    return [block for block in model.blocks if isinstance(block.linear, SparseWeights)]


def layers(model: MLP) -> list[SparseWeights]:
    """The layers of these blocks."""
    return [masked(block) for block in blocks(model)]


def masked(block: Block) -> SparseWeights:
    """The layer of one of them."""
    assert isinstance(block.linear, SparseWeights)
    return block.linear


def growth_due(exp: Experiment, now: Moment, layer: SparseWeights) -> int:
    """How many synapses every unit is to be given before this step, or how many units are to be
    wired up, as grow_units says."""
    times = schedule.times(exp, *now[1:])
    if exp.dynamic != "grow" or now.step not in times:
        return 0
    units, inputs = layer.zero_mask.shape
    whole = inputs * exp.grow_per_task
    if exp.grow_units == "fresh":
        whole = units * exp.grow_per_task / (exp.max_density_fc - exp.initial_density_fc)
    done = times.index(now.step)
    so_far = [round(whole * n / len(times)) for n in (done, done + 1)]
    return so_far[1] - so_far[0]


def share_due(exp: Experiment, now: Moment) -> float:
    """What share of its synapses a layer is to move before this step, with set and rigl."""
    if exp.dynamic not in ("set", "rigl") or now.step not in schedule.times(exp, *now[1:]):
        return 0.0
    return schedule.share(exp, now.step, now.total)


def is_due(exp: Experiment, now: Moment, model: MLP) -> bool:
    """Whether synapses are to grow or move before this step."""
    return any(growth_due(exp, now, layer) for layer in layers(model)) or share_due(exp, now) > 0


def draws(*seed: int) -> torch.Generator:
    """Where the draws of one moment come from."""
    draw = np.random.SeedSequence([DRAW, *seed]).generate_state(1, np.uint64).item()
    return torch.Generator().manual_seed(draw)


def scores(
    kind: str, model: MLP, x: Tensor, labels: Tensor, head: int, *, fresh: bool = False
) -> list[Tensor]:
    """How useful a synapse would be at every place of each layer: [outputs, inputs], 0 to 1.

    kind: gradient: the size of the loss's gradient, also where a mask is; coactivation: the mean of
    the input's absolute value where the unit is on; random: 0 everywhere. fresh: both as if every
    unit were on for all pictures, since a fresh one is on for none.
    """
    if kind == "random":
        return [torch.zeros_like(layer.weight, requires_grad=False) for layer in layers(model)]
    logits, inputs, outputs = _flow(model.eval(), x, head)
    shares = [torch.ones_like(after) for after in outputs]  # [batch, outputs]
    if kind == "gradient":
        shares = list(torch.autograd.grad(cross_entropy(logits, labels), outputs))
    else:
        inputs = [before.abs() for before in inputs]
    if not fresh:
        shares = [share * (after != 0) for share, after in zip(shares, outputs, strict=True)]
    pairs = zip(shares, inputs, strict=True)
    found = [(share.t() @ before).detach().abs() for share, before in pairs]
    return [useful / useful.max().clamp(min=1e-30) for useful in found]


def _flow(model: MLP, x: Tensor, head: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits of pictures x, what goes into the layers whose synapses change, and what comes out of
    their activations: [batch, inputs] and [batch, outputs] each."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0])

    def note_output(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    handles = [block.linear.register_forward_pre_hook(note) for block in blocks(model)]
    handles += [block.activation.register_forward_hook(note_output) for block in blocks(model)]
    logits = model(x, head)
    for handle in handles:
        handle.remove()
    return logits, inputs, outputs


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
def recruit(
    layer: SparseWeights,
    duty_cycle: Tensor,
    score: Tensor,
    count: int,
    most: int,
    generator: torch.Generator,
) -> Tensor:
    """Wire up `count` fresh units, as far as there are any: int64 [n], which they are.

    They are those with the fewest synapses, and of these the ones with the lowest duty cycle
    [outputs]. Each is given synapses until it has `most`, at places drawn in proportion to the
    score. Their weights are drawn from 0 to 1 / sqrt(most), so that it wins where the inputs are on
    for which it was wired.
    """
    mask, weight = layer.zero_mask, layer.weight
    has = (~mask).sum(1).cpu().numpy()
    order = np.lexsort((duty_cycle.cpu().numpy(), has))
    fresh = torch.from_numpy(order[has[order] < most][:count]).to(mask.device)
    shape = len(fresh), mask.shape[1]
    chance, drawn = (torch.rand(shape, generator=generator).to(mask.device) for _ in range(2))
    # The largest of score / exponential draws are drawn in proportion to the score.
    best = (score[fresh] + NEVER) / -(1 - chance).log().clamp(max=-NEVER)
    best.masked_fill_(~mask[fresh], torch.inf)
    now = torch.ones_like(mask[fresh]).scatter_(1, best.topk(most, 1).indices, False)
    new = mask[fresh] & ~now
    weight[fresh] = torch.where(new, drawn / math.sqrt(most), weight[fresh])
    mask[fresh] = now
    return fresh


@torch.no_grad()
def change(
    exp: Experiment, now: Moment, block: Block, score: Tensor, generator: torch.Generator
) -> None:
    """Let the synapses of a block grow or move as this moment asks."""
    layer = masked(block)
    due = growth_due(exp, now, layer)
    most = round(layer.zero_mask.shape[1] * exp.max_density_fc)
    if exp.dynamic == "grow" and exp.grow_units == "fresh":
        [winners] = [m for m in block.activation.modules() if isinstance(m, KWinners)]
        recruit(layer, winners.duty_cycle, score, due, most, generator)
        return
    chance = torch.rand(score.shape, generator=generator).to(score.device)
    score = score + NEVER * chance  # ties are broken at random
    if exp.dynamic == "grow":
        grow(layer.zero_mask, score, due, most)
    else:
        move(layer, score, share_due(exp, now), back=exp.dynamic == "rigl")


@torch.no_grad()
def move(layer: SparseWeights, score: Tensor, share: float, *, back: bool = True) -> int:
    """Move this share of the layer's synapses, the weakest, to where the score is highest.

    back: one that was dropped may grow back at once, and then stays as it was. Old synapses
    (`used`, where the layer has it) stay. How many are at another place.
    """
    mask, before = layer.zero_mask, layer.zero_mask.clone()
    used = dict(layer.named_buffers(recurse=False)).get("used")
    fixed = mask if used is None else mask | (used > 0)
    count = min(round(share * int((~mask).sum())), int((~fixed).sum()))
    if not back:
        count = min(count, int(mask.sum()))
    if count:
        size = layer.weight.abs().masked_fill(fixed, torch.inf).flatten()
        mask.view(-1)[size.topk(count, largest=False, sorted=False).indices] = True
        free = score.masked_fill(~(mask if back else before), -1).flatten()
        mask.view(-1)[free.topk(count, sorted=False).indices] = False
    return int((before & ~mask).sum())
