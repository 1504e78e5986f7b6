"""Synapses that come and go between steps: what growth and rewiring share.

Where a new synapse would be useful is told by the gradient, by activity, or by chance; new ones are
zero at first, but for those of fresh units, which would never win.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from exps.config import Experiment
from exps.facts import Findings, Layer
from models.blocks import Block
from models.network import Network
from sparse_syn import SparseWeights
from utils.engines.base import Engine, Need
from utils.engines.batch import Batch
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


def inputs(layers: list[Layer]) -> list[int]:
    """The inputs of a unit of each layer whose synapses change."""
    return [layer.inputs for layer in layers if not layer.convolution]


class Changing(base.Method):
    """Changes the synapses of the hidden layers before the steps that `due` names."""

    score = "random"  # see `scores`
    fresh = False

    @property
    def needs(self) -> frozenset[Need]:
        """Masks that change."""
        return frozenset({Need.MASKS})

    def due(self, now: Moment, layer: SparseWeights) -> float:
        """How much is to change in a layer before this step; 0: nothing."""
        raise NotImplementedError

    def change(self, block: Block, due: float, score: Tensor, generator: torch.Generator) -> None:
        """Change the synapses of a block by so much, by the score of every place."""
        raise NotImplementedError

    def begin_task(self, engine: Engine, task: int) -> None:
        """Look at the layers: to ask the engine for them in every step would cost a copy."""
        self.resume(engine)

    def resume(self, engine: Engine) -> None:
        """Look at the layers."""
        self.layers = layers(engine.active)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """Let synapses grow or move if it is time."""
        amounts = [self.due(now, layer) for layer in self.layers]
        if any(amounts):
            model, part = engine.active, batch.current
            x = self.stream.inputs(self.stream.train, part.samples).to(engine.device)
            labels = self.stream.labels(self.stream.train, part.samples).to(engine.device)
            found = scores(self.score, model, x, labels, part.head, fresh=self.fresh)
            generator = draws(DRAW, self.exp.seed, now.task, now.step)
            for block, due, score in zip(blocks(model), amounts, found, strict=True):
                self.change(block, due, score, generator)
            engine.follow_masks()
        return batch


def blocks(model: Network) -> list[Block]:
    """The hidden blocks whose synapses grow or move: those of masked, fully connected layers."""
    return [block for block in model.blocks if isinstance(block.linear, SparseWeights)]


def layers(model: Network) -> list[SparseWeights]:
    """The layers of these blocks."""
    return [masked(block) for block in blocks(model)]


def masked(block: Block) -> SparseWeights:
    """The layer of one of them."""
    assert isinstance(block.linear, SparseWeights)
    return block.linear


def scores(
    kind: str, model: Network, x: Tensor, labels: Tensor, head: int, *, fresh: bool = False
) -> list[Tensor]:
    """How useful a synapse would be at every place of each layer: [outputs, inputs], 0 to 1.

    kind: gradient: the size of the loss's gradient, also where a mask is; coactivation: the mean of
    the input's absolute value where the unit is on; random: 0 everywhere. fresh: both as if every
    unit were on for all pictures, since a fresh one is on for none.
    """
    if kind == "random":
        return [torch.zeros_like(layer.weight, requires_grad=False) for layer in layers(model)]
    training = model.training
    logits, inputs, outputs = _flow(model.eval(), x, head)
    shares = [torch.ones_like(after) for after in outputs]  # [batch, outputs]
    if kind == "gradient":
        shares = list(torch.autograd.grad(cross_entropy(logits, labels), outputs))
    else:
        inputs = [before.abs() for before in inputs]
    if not fresh:
        shares = [share * (after != 0) for share, after in zip(shares, outputs, strict=True)]
    model.train(training)
    pairs = zip(shares, inputs, strict=True)
    found = [(share.t() @ before).detach().abs() for share, before in pairs]
    return [useful / useful.max().clamp(min=1e-30) for useful in found]


def _flow(model: Network, x: Tensor, head: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
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
