"""Old synapses: those that earlier tasks used learn more slowly, or not at all.

Every parameter has its age beside it, `used`, from 0 (no task needed it) to 1. It grows at the end
of a task, by what that task used; from then on updates are multiplied with

    1 - (1 - old_synapse_lr) · used

a learning rate of its own for every synapse. Momentum starts from zero in every task.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Choice
from models.errors import ModelError
from models.network import Network, evaluating
from models.synapses import Weights, attach, attached
from utils.engines.base import Engine, Need
from utils.methods.path_integral import Following

KEYS = {
    "old_synapse_rule": Key(
        "usage",
        Choice(("used", "usage", "importance")),
        "which synapses are old: used: all that were ever active; usage: the more the more often "
        "they were active, fully from the average on; importance: the same by how much they "
        "lowered the loss (path integral, Zenke et al., 2017)",
    ),
}
PICTURES = 2560  # of a task, by which its use of synapses is measured
AT_A_TIME = 512  # of them


def contradictions(exp: Experiment) -> Findings:
    """Why no synapse can be slowed down."""
    if exp.weight_decay > 0:
        yield (
            ("weight_decay", "old_synapse_lr"),
            "weight decay would move the old synapses too; set weight_decay = 0",
        )
    if exp.cumul:
        yield ("old_synapse_lr", "cumul"), "with cumul there is one task, and no synapse is old"
    if exp.old_synapse_rule == "importance" and exp.engine == "sparse":
        yield (
            ("engine", "old_synapse_rule"),
            "importance needs the gradient of every synapse in every step, which engine = sparse "
            "does not compute; choose engine = auto",
        )
    elif exp.old_synapse_rule != "importance" and not exp.has_hidden:
        yield (
            ("old_synapse_rule", "old_synapse_lr", "model"),
            f"{exp.model} does not say which of its units are on; choose old_synapse_rule = "
            "importance",
        )


def doubts(exp: Experiment) -> Findings:
    """Why no synapse is ever old."""
    if exp.num_batch == 1:
        yield ("old_synapse_lr", "num_batch"), "there is one task, and no synapse is ever old"


class Method(Following):
    """Lets synapses grow old. path: with old_synapse_rule = importance."""

    @property
    def needs(self) -> frozenset[Need]:
        """Of importance, the gradient of every synapse in every step too."""
        return frozenset({Need.SCALE, Need.GRADIENTS} if self.follows else {Need.SCALE})

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.follows = exp.old_synapse_rule == "importance"

    def prepare(self, model: Network) -> None:
        """Every synapse is new."""
        if not self.follows and not model.all_blocks:
            raise ModelError(
                f"old_synapse_rule = {self.exp.old_synapse_rule}: {self.exp.model} does not say"
                " which of its units are on; choose old_synapse_rule = importance"
            )
        attach(model, "used")

    def begin_task(self, engine: Engine, task: int) -> None:
        """Slow down what is old."""
        super().begin_task(engine, task)
        engine.restart()
        self.resume(engine)

    def end_task(self, engine: Engine, task: int) -> None:
        """What the task has used is old from now on."""
        model = engine.active
        if self.path is not None:
            use = self.importance(model)
        else:
            x = pictures(self.stream, task).to(engine.device)
            use = activity(model, x, self.stream.training[task].head)
        grow_older(model, use, self.exp.old_synapse_rule)

    def resume(self, engine: Engine) -> None:
        """Slow down what is old."""
        super().resume(engine)
        engine.scale(factors(engine.active, self.exp.old_synapse_lr))


def ages(model: Network) -> dict[Tensor, Tensor]:
    """How old every synapse is, 0 to 1, by parameter; {} where none grow old."""
    return attached(model, "used")


def factors(model: Network, rate: float) -> dict[Tensor, Tensor]:
    """What the updates of the parameters are multiplied with, by parameter."""
    return {parameter: 1 - (1 - rate) * used for parameter, used in ages(model).items()}


def pictures(stream: TaskStream, task: int) -> Tensor:
    """The first training pictures of a task, float32 [n, channels, height, width]."""
    samples = stream.training[task].train.take(slice(PICTURES))
    return stream.inputs(stream.train, samples)


@torch.no_grad()
def grow_older(model: Network, use: dict[Tensor, Tensor], rule: str) -> None:
    """Count what a task used, by parameter: the age becomes the largest of all tasks.

    rule: used: all that is above zero is 1; otherwise what is at the average of all that is above
    zero or higher is 1, and what is below is in proportion.
    """
    for parameter, used in ages(model).items():
        if parameter in use:
            torch.maximum(used, _aged(use[parameter], rule), out=used)


def _aged(use: Tensor, rule: str) -> Tensor:
    some = use > 0
    if rule == "used":
        return some.float()
    return (use / use[some].mean()).clamp(0, 1) if some.any() else torch.zeros_like(use)


@torch.no_grad()
def activity(model: Network, x: Tensor, head: int) -> dict[Tensor, Tensor]:
    """How active every synapse is on pictures x [batch, channels, height, width], by parameter.

    Of a weight: the mean of its input's absolute value over all pictures, counting only those for
    which its unit is on; of a bias: how often the unit is. A convolution's unit is a channel at a
    position, and the mean is over positions too. Classes count as always on. Activations are those
    of testing.
    """
    found: dict[Tensor, Tensor] = {}
    with evaluating(model):
        for some in x.split(AT_A_TIME):
            for parameter, use in _activity(model, some, head):
                share = use * (len(some) / len(x))
                found[parameter] = found[parameter].add_(share) if parameter in found else share
    return found


def _activity(model: Network, x: Tensor, head: int) -> Iterator[tuple[Tensor, Tensor]]:
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
        if layer.any_bias is not None:
            yield layer.bias, on.transpose(0, 1).flatten(1).mean(1)
    classifier = Weights.of(model.heads[head])
    yield classifier.weight, x.abs().mean(0).expand_as(classifier.weight)
    if classifier.any_bias is not None:
        yield classifier.bias, torch.ones_like(classifier.bias)
