"""No hidden layer: classifiers of the pictures themselves, or of features that a network elsewhere
has computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from exps.facts import Layer, Shape

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.feedforward import Feedforward

USES = ()
LACKS = (
    *("hidden_units", "dropout", "sparsify", "sparse_layers", "percent_on_fc"),
    *("k_inference_factor", "boost_strength", "boost_strength_factor", "duty_cycle_period"),
    *("weight_sparsity_fc", "dynamic", "context"),
)


def layers(exp: Experiment, picture: Shape) -> list[Layer]:
    """None."""
    return []


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Feedforward:
    """The classifiers alone."""
    from models.feedforward import Feedforward  # which `layers` is asked without

    return Feedforward([], prod(input_shape), head_sizes)
