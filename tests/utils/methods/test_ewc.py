"""EWC against formulas that are written down another way: a pass a picture, and sums of pulls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

from models import ModelError
from models.network import Network
from models.synapses import attached
from utils.engines.batch import Part
from utils.methods.ewc import FISHERS, Method
from utils.methods.per_picture import sums

CPU = torch.device("cpu")


def by_hand(model: Any, x: torch.Tensor, labels: torch.Tensor | None) -> dict[Any, torch.Tensor]:
    """Σ over pictures, and over labels by their probability, of the squares of their gradients."""
    total = {p: torch.zeros_like(p) for p in model.parameters()}
    for i in range(len(x)):
        logs = log_softmax(model(x[i : i + 1]), 1)[0]
        which = range(len(logs)) if labels is None else [int(labels[i])]
        for label in which:
            share = float(logs[label].detach().exp()) if labels is None else 1.0
            gradients = torch.autograd.grad(
                logs[label], list(total), retain_graph=True, allow_unused=True
            )
            for p, g in zip(total, gradients, strict=True):
                if g is not None:
                    total[p] += share * g**2
    return total


def squared(
    model: Any, x: torch.Tensor, labels: torch.Tensor, kind: str
) -> dict[Any, torch.Tensor]:
    """The same by the products of squares."""
    found: dict[Any, torch.Tensor] = {}
    of = FISHERS[kind]
    for p, squares in sums(model, x, 0, lambda logits: of(logits, labels), squared=True):
        found[p] = found[p] + squares if p in found else squares
    return found


@pytest.mark.parametrize("kind", FISHERS)
@pytest.mark.parametrize(
    "keys",
    [
        {"sparsify": False, "hidden_layers": 2},
        {"weight_sparsity_fc": 0.5},
        {"cnn": True, "percent_on_conv": 0.1, "hidden_units": 8},
    ],
    ids=["dense", "sparse", "cnn"],
)
def test_the_fisher_information(
    experiment: Callable, stream_of: Callable, built: Callable, keys: dict[str, Any], kind: str
) -> None:
    exp = experiment(**keys)
    stream = stream_of(exp)
    model = built(exp, stream)[0].model.eval()
    samples = stream.tasks[0].train.take(slice(6))
    x, labels = stream.inputs(stream.train, samples), stream.labels(stream.train, samples)
    given = {"exact": None, "empirical": labels, "predicted": model(x).argmax(1)}[kind]
    found = squared(model, x, labels, kind)
    masks = {m.module.weight: m.zero_mask for m in model.modules() if hasattr(m, "zero_mask")}
    for p, squares in by_hand(model, x, given).items():
        mine = found[p].masked_fill(masks[p], 0) if p in masks else found[p]
        torch.testing.assert_close(mine, squares, rtol=1e-3, atol=1e-7)


class Normed(Network):
    """A convolution without bias, a norm, and a classifier."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), norm, nn.ReLU())
        self.add_heads(4, [3])

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


@pytest.mark.parametrize("kind", FISHERS)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
@pytest.mark.parametrize("largest", [2**26, 300])
def test_the_fisher_information_with_a_norm(
    kind: str, norm: nn.Module, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm has seen pictures; of those of a convolution all or some at a time."""
    monkeypatch.setattr("utils.methods.per_picture.LARGEST", largest)
    torch.manual_seed(0)
    model, x, labels = Normed(norm), torch.randn(6, 1, 7, 7), torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(3):
        model(torch.randn(20, 1, 7, 7) * 2 + 1)
    torch.nn.init.normal_(model.layers[1].weight)
    model.eval()
    given = {"exact": None, "empirical": labels, "predicted": model(x).argmax(1)}[kind]
    found = squared(model, x, labels, kind)
    for p, squares in by_hand(model, x, given).items():
        torch.testing.assert_close(found[p], squares, rtol=1e-4, atol=1e-8)


def test_layers_that_it_does_not_know_are_refused_at_once(experiment: Callable) -> None:
    model = Normed(nn.BatchNorm2d(4))
    model.layers.append(nn.LayerNorm(4))
    with pytest.raises(ModelError, match=r"not layers\.3\.weight"):
        Method(experiment(methods=("ewc",)), None).prepare(model)


@pytest.mark.parametrize("online", [False, True])
def test_the_pull_is_that_of_all_tasks_together(
    experiment: Callable, stream_of: Callable, built: Callable, online: bool
) -> None:
    """λ Σ Fₜ (θ - θₜ), or online λ γ (γ F₁ + F₂) (θ - θ₂)."""
    keys = {"sparsify": False, "methods": ("ewc",), "ewc_strength": 3.0, "ewc_online": online}
    exp = experiment(**keys, ewc_decay=0.5 if online else 1.0)
    stream = stream_of(exp)
    engine, [method], _ = built(exp, stream)
    values, fishers = [], []
    for task in (0, 1):
        with torch.no_grad():
            for p in engine.model.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(task)) / 100)
        values.append([p.detach().clone() for p in engine.model.parameters()])
        found = method.fisher(engine.model, Part.of(stream.training[task]), task)
        fishers.append([found[p] for p in engine.model.parameters()])
        method.end_task(engine, task)
    method.begin_task(engine, 2)
    with torch.no_grad():
        for i, p in enumerate(engine.model.parameters()):
            p.add_(0.01)
            spring = engine.springs["ewc"][p]
            mine = spring.strength * (p - spring.anchor)
            if online:
                right = 3 * 0.5 * (0.5 * fishers[0][i] + fishers[1][i]) * (p - values[1][i])
            else:
                right = 3 * sum(f[i] * (p - v[i]) for f, v in zip(fishers, values, strict=True))
            torch.testing.assert_close(mine, right, rtol=1e-3, atol=1e-8)


def test_what_is_held_stays_nearer_to_where_it_was(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    ends = {}
    for strength in (0.0, 100.0):
        exp = experiment(
            sparsify=False, methods=("ewc",), ewc_strength=strength, lr=0.01, train_ep=4
        )
        record, engine = trained(exp, stream_of(exp, train=1000))
        anchors, strengths = (attached(engine.model, f"ewc_{n}") for n in ("anchor", "strength"))
        assert len(anchors) == len(strengths) == 4  # a weight and a bias in both layers
        assert all(x.any() for x in (*anchors.values(), *strengths.values()))
        ends[strength] = record.accs
    assert ends[100.0][1, 0] > ends[0.0][1, 0] + 0.03  # the first task is forgotten less


def test_what_it_costs(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    exp = experiment(methods=("ewc",))
    record, _ = trained(exp, stream_of(exp))
    twice = 2 * (784 * 64 + 64 + 64 * 10 + 10)
    costs = {"parameters": twice, "pictures": 0, "memory": 0, "macs": twice}
    assert record.stats()["method_costs"] == {"ewc": costs}
