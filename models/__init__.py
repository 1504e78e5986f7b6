"""Networks and sparse layers. `make_model` builds the network that an experiment asks for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from torch import Tensor

from exps.messages import all_of, three_lines
from exps.rules import misfits
from models.errors import ModelError

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.mlp import MLP

__all__ = ["ModelError", "make_model", "module_of", "require_fit", "unbiased"]


def module_of(exp: Experiment) -> str:
    """The module that has the network of an experiment; no other model is part of its run."""
    return "models.cnn" if exp.cnn else "models.mlp"


def make_model(
    exp: Experiment, input_shape: tuple[int, int, int], head_sizes: Sequence[int]
) -> MLP:
    """The network of an experiment, on the CPU: `MLP`, or `CNN`, which is one with convolutions.

    input_shape: (channels, height, width) of a picture; head_sizes: the classes of each head.
    Initial weights and masks come from torch's global generator. Raises ModelError where the
    network does not fit the pictures, where a layer lacks the bias that a mechanism needs, and
    where the sparse layers that the experiment names are not installed.
    """
    exp = exp.in_effect
    require_fit(exp, input_shape)
    model: MLP = import_module(module_of(exp)).make_model(exp, input_shape, head_sizes)
    _require_biases(exp, model)
    if exp.old_synapse_lr < 1:
        import_module("models.mlp").remember_use(model)
    return model


def require_fit(exp: Experiment, picture: tuple[int, int, int] | None) -> None:
    """Raise ModelError where the network of an experiment cannot be one for such pictures; None:
    they are not known."""
    if picture is None:
        return
    for keys, reason in misfits(exp.in_effect, picture):
        raise ModelError(
            three_lines(
                f"{exp.name}: the network does not fit its pictures of {picture[1]} × {picture[2]}",
                reason,
                f"change {keys[0]}, or take other pictures",
            )
        )


def unbiased(model: MLP) -> list[str]:
    """The names of the layers with weights that have no bias."""
    found = [layer for layer in model.weighted if not isinstance(layer.bias, Tensor)]
    return [name for name, layer in model.named_modules() if layer in found]


def _require_biases(exp: Experiment, model: MLP) -> None:
    """Raise ModelError where synapses grow old or change, or units are shared out, without them."""
    wants = {
        f"old_synapse_lr = {exp.old_synapse_lr:g}": exp.old_synapse_lr < 1,
        f"context = {exp.context}": exp.in_effect.context != "none",
        f"dynamic = {exp.dynamic}": exp.in_effect.dynamic != "none",
    }
    asked = [text for text, holds in wants.items() if holds]
    if asked and (without := unbiased(model)):
        raise ModelError(
            three_lines(
                f"{exp.name}: {asked[0]} needs a bias in every layer",
                f"there is none in {all_of(without[:3])}",
                "build the layer with one, or leave the key out",
            )
        )
