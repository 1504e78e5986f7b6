"""Two 5 x 5 convolutions in front of a fully connected network with one hidden layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from exps.facts import Layer, Shape
from models import resnet18

if TYPE_CHECKING:
    from torch import nn

    from exps.config import Experiment
    from models.feedforward import Feedforward

USES = ("percent_on_conv", "weight_sparsity_conv")
KEYS = {"channels": resnet18.KEYS["channels"]}
WIDTHS = {"channels": "percent_on_conv", "hidden_units": "percent_on_fc"}
KERNEL = 5


def groups(exp: Experiment) -> tuple[int, ...]:
    """The channels of each convolution, and the hidden layer."""
    return exp.channels, 2 * exp.channels, exp.hidden_units


def layers(exp: Experiment, picture: Shape) -> list[Layer]:
    """The convolutions, without padding, then hidden_units. ValueError for too small pictures."""
    (channels, *sides), found = picture, []
    *convolutions, hidden = groups(exp)
    for units in convolutions:
        found.append(Layer(KERNEL**2 * channels, units, convolution=True))
        channels, sides = units, [side - KERNEL + 1 for side in sides]
    if min(sides) < 1:
        smallest = len(convolutions) * (KERNEL - 1) + 1
        raise ValueError(
            f"two convolutions of {KERNEL} × {KERNEL} leave nothing of pictures of {picture[1]} × "
            f"{picture[2]}; the CNN needs {smallest} × {smallest} at least"
        )
    return [*found, Layer(channels * sides[0] * sides[1], hidden)]


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Feedforward:
    """Every layer has a ReLU and dropout; in between k-winners where the experiment is sparse."""
    from torch import nn  # which `layers` is asked without

    from models.blocks import Block, convolution, k_winners, k_winners_2d, linear
    from models.feedforward import Feedforward

    def rectified(winners: Callable[[Experiment, int], nn.Module], units: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), winners(exp, units)) if exp.sparsify else nn.ReLU()

    *filters, (inputs, units, *_) = layers(exp, input_shape)
    convolutions = []
    for inputs_of_a_filter, outputs, *_ in filters:
        weights = convolution(exp, inputs_of_a_filter // KERNEL**2, outputs, KERNEL)
        convolutions.append(Block(weights, rectified(k_winners_2d, outputs), exp.dropout))
    hidden = Block(linear(exp, inputs, units), rectified(k_winners, units), exp.dropout)
    return Feedforward([hidden], units, head_sizes, convolutions)
