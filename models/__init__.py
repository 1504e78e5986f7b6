"""Networks and sparse layers. `make_model` builds the network that an experiment asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exps import plugins
from exps.facts import Shape
from exps.rules import misfits
from models.errors import ModelError

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.network import Network

__all__ = ["ModelError", "make_model", "require_fit"]


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Network:
    """The network of an experiment, on the CPU.

    input_shape: (channels, height, width) of a picture; head_sizes: the classes of each head.
    Initial weights and masks come from torch's global generator. Raises ModelError where the
    network does not fit the pictures, and where the sparse layers that the experiment names are not
    installed; exps.plugins.PluginError where a user's file fails.
    """
    exp = exp.in_effect
    require_fit(exp, input_shape)
    from models.network import Network  # torch comes with it

    model = plugins.call(plugins.MODEL, exp.model, "make_model", exp, input_shape, head_sizes)
    if not isinstance(model, Network):
        raise plugins.unlike(exp.model, "make_model", "a models.network.Network", model)
    if plugins.is_path(exp.model):
        with plugins.blamed(exp.model):
            _require_features(exp.model, model, input_shape)
    return model


def _require_features(value: str, model: Network, picture: Shape) -> None:
    """Raise PluginError where a user's network makes of two pictures no features for its heads."""
    import torch
    from torch.nn.parameter import is_lazy

    from models.network import evaluating

    if model.looks:  # before that it may have none
        return
    mine = [b for b in model.buffers() if not is_lazy(b)]
    before = [buffer.clone() for buffer in mine]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(model):
        found = model.features(torch.zeros(2, *picture))
    for buffer, its in zip(mine, before, strict=True):
        buffer.copy_(its)
    wanted = f"a float32 Tensor [pictures, {model.units}]"
    if not isinstance(found, torch.Tensor):
        raise plugins.unlike(value, "features", wanted, found)
    if found.shape != (2, model.units) or found.dtype != torch.float32:
        its_ = f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)} of two pictures"
        raise plugins.PluginError(f"{value}: features has to return {wanted}, not {its_}")


def require_fit(exp: Experiment, picture: Shape | None) -> None:
    """Raise ModelError where the network of an experiment cannot be one for such pictures; None:
    they are not known."""
    if picture is None:
        return
    for keys, reason in misfits(exp.in_effect, picture):
        raise ModelError(
            f"{exp.name}: the network does not fit its pictures of {picture[1]} × {picture[2]}",
            reason,
            f"change {keys[0]}, or take other pictures",
        )
