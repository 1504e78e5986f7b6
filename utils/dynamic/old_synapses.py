"""Old synapses: those that earlier tasks used learn more slowly, or not at all.

Every layer remembers how old its synapses are: `used`, from 0 (no task needed it) to 1. It grows at
the end of a task, by what that task used; from then on gradients are multiplied with

    1 - (1 - old_synapse_lr) · used

which, without weight decay and with momentum that starts from zero, is a learning rate of its own
for every synapse.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from models.mlp import MLP
from utils.engine.weights import Weights

PICTURES = 2560  # of a task, by which its use of synapses is measured
AT_A_TIME = 512  # of them
DAMPING = 1e-3  # of the path integral: what a synapse that hardly moved is divided by


def layers(model: MLP) -> list[Weights]:
    """The layers whose synapses are slowed: convolutions, hidden ones, then the classifiers."""
    return [Weights.of(layer) for layer in model.weighted]


def factors(model: MLP, rate: float) -> dict[Tensor, Tensor]:
    """What the gradients of the parameters are multiplied with, by parameter."""
    found = {}
    for layer in layers(model):
        assert layer.used is not None and layer.used_bias is not None
        found[layer.weight] = 1 - (1 - rate) * layer.used
        found[layer.bias] = 1 - (1 - rate) * layer.used_bias
    return found


@torch.no_grad()
def grow_older(model: MLP, use: dict[Tensor, Tensor], rule: str) -> None:
    """Count what a task used, by parameter: `used` becomes the largest of all tasks.

    rule: used: all that is above zero is 1; otherwise what is at the average of all that is above
    zero or higher is 1, and what is below is in proportion.
    """
    for layer in layers(model):
        for parameter, old in ((layer.weight, layer.used), (layer.bias, layer.used_bias)):
            if parameter in use and old is not None:
                torch.maximum(old, _aged(use[parameter], rule), out=old)


def _aged(use: Tensor, rule: str) -> Tensor:
    some = use > 0
    if rule == "used":
        return some.float()
    return (use / use[some].mean()).clamp(0, 1) if some.any() else torch.zeros_like(use)


@torch.no_grad()
def activity(model: MLP, x: Tensor, head: int) -> dict[Tensor, Tensor]:
    """How active every synapse is on pictures x [batch, channels, height, width], by parameter.

    Of a weight: the mean of its input's absolute value over all pictures, counting only those for
    which its unit is on; of a bias: how often the unit is. A convolution's unit is a channel at a
    position, and the mean is over positions too. Classes count as always on. The model is put into
    evaluation mode, so its activations are those of testing.
    """
    model.eval()
    found: dict[Tensor, Tensor] = {}
    for some in x.split(AT_A_TIME):
        for parameter, use in _activity(model, some, head):
            share = use * (len(some) / len(x))
            found[parameter] = found[parameter].add_(share) if parameter in found else share
    return found


def _activity(model: MLP, x: Tensor, head: int) -> Iterator[tuple[Tensor, Tensor]]:
    for block in model.all_blocks:
        layer = Weights.of(block.linear)
        before = x if layer.weight.dim() == 4 else x.flatten(1)
        x = block(before)
        on = (x != 0).float()
        if layer.weight.dim() == 4:
            use = conv2d_weight(before.abs(), layer.weight.shape, on) / on[:, 0].numel()
        else:
            use = on.t() @ before.abs() / len(x)
        yield layer.weight, use if layer.zero_mask is None else use * ~layer.zero_mask
        yield layer.bias, on.transpose(0, 1).flatten(1).mean(1)
    classifier = Weights.of(model.heads[head])
    yield classifier.weight, x.abs().mean(0).expand_as(classifier.weight)
    yield classifier.bias, torch.ones_like(classifier.bias)


class Path:
    """The path integral of a task: how much each parameter has lowered the loss (Zenke et al.,
    2017, "Continual learning through synaptic intelligence").

    Sums up -gradient · change over the steps; the gradient is the one that SGD was given.
    """

    def __init__(self, model: MLP) -> None:
        self.parameters = [p for layer in layers(model) for p in (layer.weight, layer.bias)]
        self.origin = [p.detach().clone() for p in self.parameters]
        self.before = [p.detach().clone() for p in self.parameters]
        self.total = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    @torch.no_grad()
    def add(self) -> None:
        """Count a step that was just taken: its gradients are still there."""
        for p, before, total in zip(self.parameters, self.before, self.total, strict=True):
            if p.grad is not None:
                total.addcmul_(p.grad, before.sub_(p))
            before.copy_(p)

    @torch.no_grad()
    def importance(self) -> dict[Tensor, Tensor]:
        """The integral over how far the parameter has come, at least 0, by parameter."""
        parts = zip(self.parameters, self.origin, self.total, strict=True)
        return {p: total.clamp(min=0) / ((p - o) ** 2 + DAMPING) for p, o, total in parts}

    def state(self) -> dict[str, list[Tensor]]:
        """All of it; the memory itself."""
        return {"origin": self.origin, "before": self.before, "total": self.total}

    @torch.no_grad()
    def restore(self, state: dict[str, list[Tensor]]) -> None:
        """Continue where `state` was taken."""
        for name, tensors in self.state().items():
            for mine, saved in zip(tensors, state[name], strict=True):
                mine.copy_(saved)
