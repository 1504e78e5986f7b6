"""Synapses that come and go between steps: what growth and rewiring share.

Where a new synapse would be useful is told by the gradient, by activity, or by chance; new ones are
zero at first, but for those of fresh units, which would never win.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.grad import conv2d_weight

from exps.config import Experiment
from exps.facts import Findings, Layer
from models.blocks import Block
from models.network import Network, evaluating
from models.synapses import beside
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.engines.base import Engine, Need
from utils.engines.batch import Batch, Part
from utils.methods import base
from utils.methods.base import Moment, draws

NEVER = 1e-6  # the part of the highest score that chance alone has
DRAW = 3  # sets the draws of places apart from whatever else is drawn from the seed

# What says how long tasks are, beside `dynamic`.
LENGTH = (
    *("train_ep", "train_ep_inc", "mb_size", "num_batch", "validation", "benchmark"),
    *("mnist_mode", "tasks", "classes_per_task", "data_file", "data"),
)
UNTIL = 0.75  # of the steps of a task synapses grow, or move with rigl


def contradictions(exp: Experiment) -> Findings:
    """Why no synapse can change."""
    if exp.sparse_layers != "own":
        yield ("dynamic", "sparse_layers"), "synapses that change need sparse_layers = own"
    if exp.cumul:
        yield ("dynamic", "cumul"), "synapses change from task to task; not with cumul"


def inputs(layers: list[Layer], *, convolution: bool = False) -> list[int]:
    """The inputs of a unit of each layer of this kind."""
    return [layer.inputs for layer in layers if layer.convolution == convolution]


class Synapses(NamedTuple):
    """Of a layer, [outputs, inputs] each: zero_mask bool, weight, and how old they are (see
    `old_synapses`), None where none grow old."""

    zero_mask: Tensor
    weight: Tensor
    used: Tensor | None

    @staticmethod
    @contextmanager
    def of(layer: SparseWeightsBase) -> Iterator[Synapses]:
        """Those of a layer, to be changed; a convolution's inputs are in_channels * kernel area."""
        used = beside(layer, "weight").get("used_weight")
        mask, weight = layer.zero_mask, layer.weight.detach()
        used = None if used is None else used.flatten(1)
        flat = Synapses(mask.flatten(1), weight.flatten(1), used)
        yield flat
        for its, changed in ((mask, flat.zero_mask), (weight, flat.weight)):
            if changed.data_ptr() != its.data_ptr():  # channels last: it is a copy
                its.copy_(changed.view(its.shape))


class Changing(base.Method):
    """Changes the synapses of the hidden layers before the steps that `due` names. With a synapse
    goes what is attached to it (`models.synapses.attach`)."""

    score = "random"  # see `scores`
    fresh = False

    @property
    def needs(self) -> frozenset[Need]:
        """Masks that change."""
        return frozenset({Need.MASKS})

    def due(self, now: Moment, layer: SparseWeightsBase) -> float:
        """How much is to change in a layer before this step; 0: nothing."""
        raise NotImplementedError

    def change(self, block: Block, due: float, score: Tensor, generator: torch.Generator) -> None:
        """Change the `Synapses` of a block by so much, by the score of every place."""
        raise NotImplementedError

    def begin_task(self, engine: Engine, task: int) -> None:
        """Look at the layers: to ask the engine for them in every step would cost a copy."""
        self.resume(engine)

    def resume(self, engine: Engine) -> None:
        """Look at the layers."""
        self.layers = layers(engine.active, self.exp)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """Let synapses grow or move if it is time."""
        amounts = [self.due(now, layer) for layer in self.layers]
        if any(amounts):
            model, part = engine.active, batch.current
            x = self.stream.inputs(self.stream.train, part.samples).to(engine.device)
            labels = self.stream.labels(self.stream.train, part.samples).to(engine.device)
            changing = blocks(model, self.exp)
            found = scores(self.score, model, changing, x, labels, part, fresh=self.fresh)
            generator = draws(DRAW, self.exp.seed, now.task, now.step)
            for block, due, score in zip(changing, amounts, found, strict=True):
                self.change(block, due, score, generator)
                for its in beside(block.linear, "weight").values():
                    its.masked_fill_(masked(block).zero_mask, 0)
            engine.follow_masks()
        return batch


def blocks(model: Network, exp: Experiment) -> list[Block]:
    """The blocks whose synapses grow or move: the hidden ones of masked layers, then those of
    masked convolutions if these change too."""
    found = model.blocks
    if exp.filters_change:
        found = found + [block for block in model.all_blocks if block not in found]
    return [block for block in found if isinstance(block.linear, SparseWeightsBase)]


def layers(model: Network, exp: Experiment) -> list[SparseWeightsBase]:
    """The layers of these blocks."""
    return [masked(block) for block in blocks(model, exp)]


def masked(block: Block) -> SparseWeightsBase:
    """The layer of one of them."""
    assert isinstance(block.linear, SparseWeightsBase)
    return block.linear


def scores(
    kind: str,
    model: Network,
    changing: list[Block],
    x: Tensor,
    labels: Tensor,
    part: Part,
    *,
    fresh: bool = False,
) -> list[Tensor]:
    """How useful a synapse would be at every place of each of these blocks' layers: [outputs,
    inputs], 0 to 1; of a convolution summed over positions. part: what x is of.

    kind: gradient: the size of the loss's gradient, also where a mask is; coactivation: the mean of
    the input's absolute value where the unit is on; random: 0 everywhere. fresh: both as if every
    unit were on for all pictures, since a fresh one is on for none.
    """
    weights = [masked(block).weight for block in changing]
    if kind == "random":
        return [torch.zeros_like(weight, requires_grad=False).flatten(1) for weight in weights]
    with evaluating(model):
        logits, inputs, outputs = _flow(model, changing, x, part.head)
    shares = [torch.ones_like(after) for after in outputs]  # [batch, outputs, ...]
    if kind == "gradient":
        loss = cross_entropy(logits[:, : part.outputs], labels)
        shares = list(torch.autograd.grad(loss, outputs))
    else:
        inputs = [before.abs() for before in inputs]
    if not fresh:
        shares = [share * (after != 0) for share, after in zip(shares, outputs, strict=True)]
    found = [_useful(*three).detach().abs() for three in zip(changing, shares, inputs, strict=True)]
    return [useful / useful.max().clamp(min=1e-30) for useful in found]


def _useful(block: Block, share: Tensor, before: Tensor) -> Tensor:
    """The sum over pictures (and positions) of what a synapse reads, weighted by what its unit has
    a share in."""
    layer = masked(block).module
    if not isinstance(layer, nn.Conv2d):
        return share.t() @ before
    how = layer.stride, layer.padding, layer.dilation, layer.groups
    return conv2d_weight(before, layer.weight.shape, share, *how).flatten(1)


def _flow(
    model: Network, changing: list[Block], x: Tensor, head: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits of pictures x, what goes into the layers of these blocks, and what comes out of their
    activations: [batch, inputs] and [batch, outputs] each, and of convolutions places."""
    inputs: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[layer] = args[0].detach()

    def note_output(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[layer] = output

    handles = [block.linear.register_forward_pre_hook(note) for block in changing]
    handles += [block.activation.register_forward_hook(note_output) for block in changing]
    logits = model(x, head)
    for handle in handles:
        handle.remove()
    return logits, [inputs[b.linear] for b in changing], [outputs[b.activation] for b in changing]
