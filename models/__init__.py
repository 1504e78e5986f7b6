"""Networks and sparse layers. `make_model` builds the network that an experiment asks for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.mlp import MLP

__all__ = ["ModelError", "make_model", "module_of"]


def module_of(exp: Experiment) -> str:
    """The module that has the network of an experiment; no other model is part of its run."""
    return "models.cnn" if exp.cnn else "models.mlp"


def make_model(
    exp: Experiment, input_shape: tuple[int, int, int], head_sizes: Sequence[int]
) -> MLP:
    """The network of an experiment, on the CPU: `MLP`, or `CNN`, which is one with convolutions.

    input_shape: (channels, height, width) of a picture; head_sizes: the classes of each head.
    Initial weights and masks come from torch's global generator. Raises ModelError where the sparse
    layers that the experiment names are not installed.
    """
    model: MLP = import_module(module_of(exp)).make_model(exp, input_shape, head_sizes)
    if exp.old_synapse_lr < 1:
        import_module("models.mlp").remember_use(model)
    return model
