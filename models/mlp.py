"""Fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from exps.facts import Layer, Shape

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.feedforward import Feedforward

FULLY_CONNECTED = True
USES = ("hidden_layers",)
WIDTHS = {"hidden_units": "percent_on_fc"}


def groups(exp: Experiment) -> tuple[int, ...]:
    """A hidden layer each."""
    return (exp.hidden_units,) * exp.hidden_layers


def layers(exp: Experiment, picture: Shape) -> list[Layer]:
    """hidden_layers of hidden_units."""
    widths = [math.prod(picture)] + [exp.hidden_units] * exp.hidden_layers
    return [Layer(inputs, units) for inputs, units in pairwise(widths)]


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Feedforward:
    """Sparse: weights, k-winners, dropout; dense: ReLU instead."""
    from torch import nn  # which `layers` is asked without

    from models.blocks import Block, k_winners, linear
    from models.feedforward import Feedforward

    hidden = [
        Block(
            linear(exp, inputs, units),
            k_winners(exp, units) if exp.sparsify else nn.ReLU(),
            exp.dropout,
        )
        for inputs, units, *_ in layers(exp, input_shape)
    ]
    return Feedforward(hidden, exp.hidden_units, head_sizes)
