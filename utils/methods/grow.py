"""Growth: synapses that are added at the start of a task, and then on a schedule until three
quarters of it.

Either every unit gets the same number of new synapses, or every task wires up fresh units, each in
full, and leaves the others as they are; in the end fan-in is even in both.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings, Layer
from exps.keys import Key, When
from exps.kinds import Choice, Number, Whole
from models.blocks import Block
from sparse_syn.k_winners import KWinnersBase
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.methods import changing
from utils.methods.base import Moment
from utils.methods.changing import LENGTH, NEVER, UNTIL, Synapses, inputs, masked

KEYS = {
    "grow_per_task": Key(0.02, Number(0, 1), "what is added to the density of a layer in a task"),
    "grow_units": Key(
        "all",
        Choice(("all", "fresh")),
        "which units new synapses are given to; all: to each as many; fresh: for every task to "
        "others, those with the fewest synapses that win least, to each as many as "
        "max_density_fc allows, with weights above zero",
    ),
    "grow_every": Key(
        0,
        Whole(0, 1_000_000, "steps"),
        "steps between two growths within the first three quarters of a task; 0: all of it grows "
        "at the start",
    ),
    "max_density_fc": Key(0.5, Number(0, 1, above=True), "density at which growth ends"),
    "max_density_conv": Key(
        0.5,
        Number(0, 1, above=True),
        "the same of convolutions",
        When("initial_density_conv below 1 (cnn)", lambda e: e.filters_change),
    ),
    "grow_by": Key(
        "gradient",
        Choice(("gradient", "coactivation", "random")),
        "where synapses grow: where the gradient is largest, where input and unit are active "
        "together most, or anywhere; fresh units take part as if they were always active, and "
        "their places are drawn in proportion to it",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why nothing can grow."""
    yield from changing.contradictions(exp)
    for end, begin in _densities(exp):
        first, last = getattr(exp, begin), getattr(exp, end)
        if last <= first:
            yield (
                (end, begin),
                f"{end} = {last:g} is not above {begin} = {first:g}, so nothing could grow",
            )


def doubts(exp: Experiment) -> Findings:
    """Why later tasks have nothing that could grow: where they share a network."""
    for end, begin in _densities(exp) if not exp.parts and exp.grow_per_task else ():
        growing = math.ceil((getattr(exp, end) - getattr(exp, begin)) / exp.grow_per_task - 1e-9)
        if growing < exp.num_batch:
            what = "no unit is fresh any more" if exp.grow_units == "fresh" else f"{end} is reached"
            yield (
                ("grow_per_task", end, "num_batch"),
                f"after {growing} of {exp.num_batch} tasks {what}, and nothing grows; grow_per_task"
                f" = {(getattr(exp, end) - getattr(exp, begin)) / exp.num_batch:.2g} lasts for all",
            )


def _densities(exp: Experiment) -> list[tuple[str, str]]:
    """The keys of the density at which a layer's growth ends, and of that with which it begins, of
    fully connected layers, and of convolutions where these grow."""
    ends = "max_density_fc", "max_density_conv"
    return [pair for pair in zip(ends, exp.densities, strict=True) if pair[1].startswith("initial")]


def misfits(exp: Experiment, layers: list[Layer]) -> Findings:
    """Why nothing can grow in layers of this size."""
    for convolution, (end, begin) in enumerate(_densities(exp)):
        first, last = getattr(exp, begin), getattr(exp, end)
        each = inputs(layers, convolution=bool(convolution))
        if last <= first or not each:
            continue
        if all(round(n * last) == round(n * first) for n in each):
            yield (
                (end, begin),
                f"{end} = {last:g} and {begin} = {first:g} are as many synapses of a unit of"
                f" {max(each)} inputs, so nothing could grow",
            )
            continue
        fewest = min(each)
        count, what = fewest * exp.grow_per_task, f"no synapse to a unit of {fewest} inputs"
        if exp.grow_units == "fresh":
            units = min(its.units for its in layers if its.convolution == bool(convolution))
            count, what = units * exp.grow_per_task / (last - first), "no fresh unit to a task"
        if round(count) < 1:
            sizes = ("channels",) if convolution else ("hidden_units",)
            yield (
                ("grow_per_task", *sizes, end),
                f"grow_per_task = {exp.grow_per_task:g} gives {what}",
            )


def never_due(exp: Experiment, tasks: list[tuple[int, int]], layers: list[Layer]) -> Findings:
    """What is not long enough for a second growth."""
    longest = max(total for _, total in tasks)
    if exp.grow_every and max(len(times(exp, total)) for _, total in tasks) == 1:
        yield (
            ("grow_every", *LENGTH),
            f"no task is long enough for a second growth before three quarters of its {longest:,} "
            "steps at most, so all grows at the start, as with grow_every = 0",
        )


def times(exp: Experiment, total: int) -> range:
    """The steps (from 0) before which synapses grow in a task of `total` steps."""
    return range(0, math.ceil(UNTIL * total), exp.grow_every or max(total, 1))


class Method(changing.Changing):
    """Lets synapses grow as the keys of `dynamic = grow` say."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.score, self.fresh = exp.grow_by, exp.grow_units == "fresh"

    def due(self, now: Moment, layer: SparseWeightsBase) -> int:
        """How many synapses every unit is to be given before this step, or how many units are to be
        wired up, as grow_units says."""
        exp = self.exp
        moments = times(exp, now.total)
        if now.step not in moments:
            return 0
        units, inputs = layer.zero_mask.flatten(1).shape
        whole = inputs * exp.grow_per_task
        if self.fresh:
            end, begin = self.densities(layer.zero_mask)
            whole = units * exp.grow_per_task / (end - begin)
        done = moments.index(now.step)
        so_far = [round(whole * n / len(moments)) for n in (done, done + 1)]
        return so_far[1] - so_far[0]

    def densities(self, weight: Tensor) -> tuple[float, float]:
        """At which the growth of a layer with this weight ends, and with which it begins."""
        end, begin = _densities(self.exp)[weight.dim() == 4]
        return getattr(self.exp, end), getattr(self.exp, begin)

    @torch.no_grad()
    def change(self, block: Block, due: float, score: Tensor, generator: torch.Generator) -> None:
        """Give every unit `due` synapses, or wire up so many units."""
        most = round(score.shape[1] * self.densities(masked(block).weight)[0])
        with Synapses.of(masked(block)) as its:
            if self.fresh:
                [winners] = [m for m in block.activation.modules() if isinstance(m, KWinnersBase)]
                recruit(its, winners.duty_cycle.flatten(), score, int(due), most, generator)
            else:
                chance = torch.rand(score.shape, generator=generator).to(score.device)
                grow(its.zero_mask, score + NEVER * chance, int(due), most)  # ties fall at random


@torch.no_grad()
def grow(zero_mask: Tensor, score: Tensor, count: int, most: int) -> int:
    """Give every unit `count` synapses where the score is highest; how many that is in all.

    zero_mask bool [outputs, inputs] is changed. No unit gets more than `most` altogether.
    """
    room = most - (~zero_mask).sum(1, keepdim=True)
    count = min(count, int(room.max()))
    if count <= 0:
        return 0
    before = int(zero_mask.sum())
    places = score.masked_fill(~zero_mask, -1).topk(count, 1).indices  # the best first
    full = torch.arange(count, device=room.device) >= room
    zero_mask.scatter_(1, places, zero_mask.gather(1, places) & full)
    return before - int(zero_mask.sum())


@torch.no_grad()
def recruit(
    its: Synapses,
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
    mask, weight, _ = its
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
