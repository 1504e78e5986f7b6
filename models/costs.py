"""What a model costs, dense and active: counted on the model itself, not assumed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from models.network import Network, evaluating
from sparse_syn.functional import max_entropy
from sparse_syn.sparse_weights import SparseWeightsBase, synapses


def weight_density(model: Network) -> dict[str, float]:
    """Fraction of the weights of every layer that are synapses, counted, by the layer's name."""
    return {name: float(_synapses(layer).double().mean()) for name, layer in _layers(model)}


@dataclass(frozen=True)
class LayerCost:
    """Parameters, and multiply-adds for one picture: all of them, and those that count.

    A parameter counts when it is not masked, a multiply-add when its input is on as well: where
    k-winners come before the layer, that share of its inputs is.
    """

    name: str
    kind: str
    params: int
    active_params: int
    macs: int
    active_macs: int


def layer_costs(
    model: Network, input_shape: tuple[int, int, int], part: Network | None = None
) -> list[LayerCost]:
    """The costs of every layer with weights, in the order of the forward pass.

    Counts every head, though a picture uses only one of them. part: that of the network which a
    picture is computed with, where it is not all of it.
    """
    if part is not None and part is not model:
        own, whole = layer_costs(part, input_shape), layer_costs(model, input_shape)
        return [
            replace(layer, macs=its.macs, active_macs=its.active_macs)
            for layer, its in zip(whole, own, strict=True)
        ]
    layers, winners = dict(_layers(model)), dict(k_winner_layers(model))
    pools = [m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    # Every layer, with its input and the outputs of a unit or channel.
    order: list[tuple[nn.Module, Tensor, int]] = []
    handles = [
        layer.register_forward_hook(lambda m, x, out: order.append((m, x[0], out[0, 0].numel())))
        for layer in (*layers.values(), *winners.values(), *pools)
    ]
    with torch.no_grad(), evaluating(model):
        device = next(model.parameters()).device
        features = model.features(torch.zeros(1, *input_shape, device=device))
        for head in model.heads:
            head(features)
    for handle in handles:
        handle.remove()
    names = {layer: name for name, layer in layers.items()}
    on, shared, costs = 1.0, list[tuple[Tensor, float]](), []
    for layer, x, places in order:
        if layer in pools:
            on = 1.0  # a mean is on where one of many is
        elif layer not in names:
            k, among, _ = _winners(layer)
            on = k / among  # the share of units that win in training
        else:
            share = next((s for seen, s in shared if seen is x), on)  # several layers may read it
            shared.append((x, share))
            costs.append(_cost(names[layer], layer, places, share))
            on = 1.0
    return costs


def k_winner_layers(model: Network) -> list[tuple[str, nn.Module]]:
    """The k-winner activations by name, this project's and nupic.torch's, in the model's order."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "duty_cycle", None), Tensor)
    ]


def entropies(model: Network) -> np.ndarray:
    """Entropy in bits of the duty cycles of each k-winner layer, float64 [layers]."""
    return np.array([float(m.entropy()) for _, m in k_winner_layers(model)])  # type: ignore[operator]


def max_entropies(model: Network) -> np.ndarray:
    """The most that k winners of n can have, float64 [layers]: all win equally often, and as close
    to half of the time as k allows, for one whose value is not above zero is no winner.
    """
    found = []
    for _, layer in k_winner_layers(model):
        k, among, n = _winners(layer)
        found.append(max_entropy(among, min(k, among / 2)) * (n // among))
    return np.array(found)


def _winners(layer: nn.Module) -> tuple[int, int, int]:
    """How many win among how many, and how many units the layer has: channels may compete at each
    position."""
    among = layer.channels if getattr(layer, "local", False) else layer.n
    return int(layer.k), int(among), int(layer.n)  # type: ignore[arg-type]


def _cost(name: str, layer: nn.Module, places: int, on: float) -> LayerCost:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    biases = bias.numel() if isinstance(bias, Tensor) else 0
    active = int(_synapses(layer).sum())
    return LayerCost(
        name,
        kind=type(layer).__name__,
        params=weight.numel() + biases,
        active_params=active + biases,
        macs=weight.numel() * places,
        active_macs=round(active * places * on),
    )


def _synapses(layer: nn.Module) -> Tensor:
    """Which weights are there, bool: what no mask hides. A mask of nupic.torch's does not last in
    training, so there it is what is not zero.
    """
    weight, mask = layer.weight, getattr(layer, "zero_mask", None)
    assert isinstance(weight, Tensor)
    lasts = mask is None or isinstance(layer, SparseWeightsBase)
    return synapses(weight, mask if lasts else weight == 0)


def _layers(model: Network) -> list[tuple[str, nn.Module]]:
    """The layers that hold weights, outermost first: a SparseWeights, not the layer inside it."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if not inside and isinstance(getattr(module, "weight", None), Tensor):
            found.append((name, module))
    return found
