"""Networks that cannot be what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exps.config import Experiment
from models import ModelError, blocks, make_model

Make = Callable[..., Experiment]
OLD = {"old_synapse_lr": 0.5, "weight_decay": 0.0}


def refusal(exp: Experiment, shape: tuple[int, int, int] = (1, 12, 12)) -> str:
    with pytest.raises(ModelError) as caught:
        make_model(exp, shape, [10])
    assert str(caught.value).count("\n") == 2  # what, why, what to do
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "side", "reason"),
    [
        ({"cnn": True}, 8, "the CNN needs 9 × 9 at least"),
        ({"cnn": True}, 2, "pictures of 2 × 2"),
        ({"weight_sparsity_fc": 0.01}, 2, "no weight for a unit of 4 inputs"),
        ({"dynamic": "set"}, 2, "initial_density_fc = 0.05 leaves no weight"),
        ({"dynamic": "grow", "initial_density_fc": 0.3}, 2, "no synapse to a unit of 4 inputs"),
    ],
)
def test_pictures_too_small(
    experiment: Make, changes: dict[str, Any], side: int, reason: str
) -> None:
    exp = experiment(**changes)
    assert reason in refusal(exp, (1, side, side))
    make_model(exp, (1, 28, 28), [10])


@pytest.mark.parametrize("side", [9, 10])
def test_the_smallest_pictures_of_a_cnn(experiment: Make, side: int) -> None:
    model = make_model(experiment(cnn=True, weight_sparsity_conv=0.1), (1, side, side), [10])
    assert model(torch.rand(2, 1, side, side)).shape == (2, 10)


@pytest.fixture
def no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully connected layers as somebody who needs no bias would build them."""

    class Unbiased(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs, bias=False)

    class Layers:
        Linear, Conv2d, Module = Unbiased, nn.Conv2d, nn.Module

    monkeypatch.setattr(blocks, "nn", Layers)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight_sparsity_fc": 0.5},
        {"sparsify": False, "dynamic": "grow"},
        OLD,
        OLD | {"sparsify": False},
        OLD | {"cnn": True},
        {"context": "prototype", "context_units": 20},
        *({"dynamic": name} for name in ("grow", "set", "rigl")),
    ],
)
@pytest.mark.usefixtures("no_bias")
def test_layers_need_no_bias(experiment: Make, changes: dict[str, Any]) -> None:
    """What mechanisms do with such layers: see tests/utils/methods/test_no_bias.py."""
    model = make_model(experiment(**changes), (1, 28, 28), [10])
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(getattr(layer, "weight", None), Tensor) and not name.endswith("module")
    }
    assert [name for name, layer in layers.items() if layer.bias is None] == ["hidden.0.linear"]
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
