"""What a model costs, dense and active: counted on the model itself, not assumed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.mlp import MLP


def weight_density(model: MLP) -> dict[str, float]:
    """Fraction of non-zero weights of every layer, measured, by the layer's name."""
    return {
        name: int(weight.count_nonzero()) / weight.numel()
        for name, layer in _layers(model)
        if isinstance(weight := layer.weight, Tensor)
    }


@dataclass(frozen=True)
class LayerCost:
    """Parameters, and multiply-adds for one picture: all, and those of non-zero weights."""

    name: str
    kind: str
    params: int
    active_params: int
    macs: int
    active_macs: int


def layer_costs(model: MLP, input_shape: tuple[int, int, int]) -> list[LayerCost]:
    """The costs of every layer with weights, in the order of the forward pass.

    Counts every head, though a picture uses only one of them.
    """
    places: dict[str, int] = {}
    handles = []
    for name, layer in _layers(model):

        def note(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            places[name] = out[0, 0].numel()  # each weight is used once, or once per position

        handles.append(layer.register_forward_hook(note))
    training = model.training
    model.eval()
    with torch.no_grad():
        device = next(model.parameters()).device
        features = model.features(torch.zeros(1, *input_shape, device=device))
        for head in model.heads:
            head(features)
    model.train(training)
    for handle in handles:
        handle.remove()
    layers = dict(_layers(model))
    return [_cost(name, layers[name], places[name]) for name in places]


def _cost(name: str, layer: nn.Module, places: int) -> LayerCost:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    biases = bias.numel() if isinstance(bias, Tensor) else 0
    active = int(weight.count_nonzero().item())
    return LayerCost(
        name,
        kind=type(layer).__name__,
        params=weight.numel() + biases,
        active_params=active + biases,
        macs=weight.numel() * places,
        active_macs=active * places,
    )


def _layers(model: MLP) -> list[tuple[str, nn.Module]]:
    """The layers that hold weights, outermost first: a SparseWeights, not the layer inside it."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if not inside and isinstance(getattr(module, "weight", None), Tensor):
            found.append((name, module))
    return found
