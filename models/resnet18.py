"""ResNet-18 as it is trained on CIFAR: a first convolution of 3 x 3 without pooling after it.

He et al., 2016, "Deep residual learning for image recognition". With channels = 20 it is the
reduced one of Lopez-Paz & Ranzato, 2017, "Gradient episodic memory for continual learning".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from exps.facts import Layer, Shape
from exps.keys import Key
from exps.kinds import Choice, Whole

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.residual import Residual

LACKS = ("hidden_units", "dropout", "percent_on_fc", "weight_sparsity_fc", "dynamic")
USES = ("percent_on_conv", "weight_sparsity_conv")
KEYS = {
    "channels": Key(
        64,
        Whole(1, 4096, "channels"),
        "of the first stage, each later one has twice as many; of the four of resnet18; 20: the "
        "reduced one of Lopez-Paz & Ranzato (2017)",
    ),
    "norm": Key(
        "batch",
        Choice(("batch", "group", "none")),
        "what follows a convolution; batch: batch norm; group: group norm of 32, 16, 8, 4 or 2 "
        "groups, the most that have two channels or more, all as many (Wu & He, 2018); none: a "
        "bias, and an initialisation with which that trains (Zhang et al., 2019)",
    ),
}
WIDTHS = {"channels": "percent_on_conv"}
STAGES, BLOCKS = 4, 2  # blocks of a stage


class Step(NamedTuple):
    """A residual block: how many channels come in and go out, and the stride of its first
    convolution."""

    inputs: int
    outputs: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether the shortcut is a convolution of 1 x 1."""
        return self.stride > 1 or self.inputs != self.outputs


def steps(channels: int) -> Iterator[Step]:
    """The residual blocks, one after the other."""
    inputs = channels
    for stage in range(STAGES):
        for block in range(BLOCKS):
            outputs = channels * 2**stage
            yield Step(inputs, outputs, 2 if stage and not block else 1)
            inputs = outputs


def groups(exp: Experiment) -> tuple[int, ...]:
    """Of the first convolution; then of every block those between its convolutions, and those that
    it writes, where they are not the ones that it adds to."""
    blocks = [(step.outputs,) * (1 + step.projects) for step in steps(exp.channels)]
    return (exp.channels, *(units for block in blocks for units in block))


def layers(exp: Experiment, picture: Shape) -> list[Layer]:
    """All convolutions. ValueError for too small pictures."""
    smallest = 2 ** (STAGES - 1) + 1
    if min(picture[1:]) < smallest:
        raise ValueError(
            f"three strides of 2 leave one position of pictures of {picture[1]} × {picture[2]}, "
            f"or one row; resnet18 needs {smallest} × {smallest} at least"
        )
    found = [Layer(9 * picture[0], exp.channels, convolution=True)]
    for inputs, outputs, _ in (some := list(steps(exp.channels))):
        found.append(Layer(9 * inputs, outputs, convolution=True))
        found.append(Layer(9 * outputs, outputs, convolution=True))
    shortcuts = [Layer(s.inputs, s.outputs, True, winners=False) for s in some if s.projects]
    return [*shortcuts, *found]


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Residual:
    """Sparse: masked convolutions, and k-winners after every ReLU."""
    from models.residual import Residual  # which `layers` is asked without

    return Residual(exp, input_shape[0], list(steps(exp.channels)), head_sizes)
