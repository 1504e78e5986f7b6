"""A part of a network computes what the whole computes with all other units at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from exps.config import Experiment
from models import make_model
from models.errors import ModelError
from models.network import Network, Wire
from models.synapses import attach, attached
from utils.engines.subnet import Subnet, places, require_parts

PICTURES = (2, 11, 10)
PART = {"hidden_units": 4, "channels": 2}
MASKED = {"weight_sparsity_fc": 0.5, "weight_sparsity_conv": 0.5}
MASKED |= {"percent_on_fc": 1.0, "percent_on_conv": 1.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"model": "mlp", "hidden_layers": 2},
    "cnn": {"model": "cnn", "channels": 5},
    "resnet18": {"model": "resnet18", "channels": 4, "norm": "batch"},
    "resnet18 without norm": {"model": "resnet18", "channels": 4, "norm": "none"},
}


def network(exp: Experiment, sizes: list[int]) -> Network:
    """With nothing at zero that would hide a fault."""
    model = make_model(exp, PICTURES, sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def silenced(model: Network, units: list[Tensor], x: Tensor, head: int) -> Tensor:
    """Logits of the whole network, whose activations let these units of every group pass alone."""
    handles = []
    for module, reads, writes in model.wires:
        if reads is None and not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):

            def gate(_: Any, __: Any, y: Tensor, own: Tensor = units[writes]) -> Tensor:
                shape = (1, -1) + (1,) * (y.dim() - 2)
                return y * torch.zeros(y.shape[1]).index_fill(0, own, 1).view(shape)

            handles.append(module.register_forward_hook(gate))
    logits = model(x, head)
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), shared=st.booleans(), masked=st.booleans())
def test_it_is_the_whole_network_with_the_others_at_zero(
    name: str, seed: int, shared: bool, masked: bool
) -> None:
    """Any units of every group, in any order; weights, masks, norms, and what is attached."""
    torch.manual_seed(seed)
    keys = NETWORKS[name] | (MASKED if masked else {"sparsify": False})
    exp, part = (
        Experiment(name="Test", hidden_units=7, **keys),
        Experiment(name="Part", **keys | PART),
    )
    model = network(exp, [3, 2])
    units = [torch.randperm(n)[:size] for n, size in zip(exp.groups, part.groups, strict=True)]
    template = make_model(part, PICTURES, [3, 2]).eval()
    for one in (model, template):
        attach(one, "seen")
    subnet = Subnet(model, template, units, None if shared else 1)
    x = torch.randn(5, *PICTURES)
    with torch.no_grad():
        logits = subnet.net(x, 1)
        if shared:  # its bias is not the part's
            logits = logits - subnet.net.heads[1].bias + model.heads[1].bias
        torch.testing.assert_close(logits, silenced(model, units, x, 1), rtol=1e-4, atol=1e-4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    marks = attached(subnet.net, "seen")
    with torch.no_grad():
        for parameter, mark in marks.items():
            parameter += 1
            mark += 1
    subnet.write_back()
    moved = attached(model, "seen")
    own = places(model, units)
    for key, value in model.named_parameters():
        change = value.detach() - before[key]
        # What is attached has moved with its parameter, and both by one where the part is.
        assert torch.equal(change.abs() > 0.5, moved[value] == 1), key
        if value in own and not (key.startswith("heads.0") and not shared):
            place = torch.zeros_like(value, dtype=torch.bool)
            place[own[value]] = True
            assert torch.equal(moved[value] == 1, place), key


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda wires: [w for w in wires if not isinstance(w.module, nn.BatchNorm2d)], "leave out"),
        (lambda wires: wires[:-3], "leave out"),
        (lambda wires: [w._replace(writes=w.writes + 20) for w in wires], "1 of .*writes group 20"),
        (
            lambda wires: [w._replace(writes=0) for w in wires],
            "it reads group 1, which no wire before it writes",
        ),
        (lambda wires: [], "it has no wires"),
        (lambda wires: None, "it has no wires"),
        (lambda wires: [tuple(w) for w in wires], "wire 1 of .*: it is not a Wire of a module"),
        (lambda wires: [w._replace(module="a") for w in wires], "it is not a Wire of a module"),
        (lambda wires: [w._replace(reads=-2) for w in wires], "it reads group -2, which no wire"),
        (lambda wires: [wires[-3], *wires], "it reads group .*, which no wire before it writes"),
        (
            lambda wires: [wires[0], Wire(nn.BatchNorm2d(5), None, 0), *wires],
            "BatchNorm2d is of 5 units, and group 0 has 4",
        ),
        (
            lambda wires: [wires[0], Wire(nn.Conv2d(3, 4, 1), 0, 0), *wires],
            "Conv2d reads 3 values, and group 0 has 4 units",
        ),
    ],
)
def test_wires_that_do_not_tell_all_are_refused(
    monkeypatch: pytest.MonkeyPatch, fault: Callable, reason: str
) -> None:
    """A module that is left out would be nobody's: a later task would change it for all."""
    exp = Experiment(name="Test", sparsify=False, model="resnet18", channels=4)
    model = make_model(exp, PICTURES, [3, 2])
    require_parts(exp, model)
    wires = fault(model.wires)
    monkeypatch.setattr(type(model), "wires", property(lambda _: wires))
    with pytest.raises(ModelError, match=reason):
        require_parts(exp, model)
