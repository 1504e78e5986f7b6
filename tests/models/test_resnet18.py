"""The residual network: torchvision's with the first convolution of CIFAR, dense or sparse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from exps.config import Experiment
from exps.rules import contradictions, misfits
from models import ModelError, make_model
from models.costs import layer_costs
from models.network import Network
from models.residual import Addition
from sparse_syn import KWinners2d, SparseWeights2d

Make = Callable[..., Experiment]
CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
SPARSE: dict[str, Any] = {"percent_on_conv": 0.25, "weight_sparsity_conv": 0.5}


def made(experiment: Make, shape: tuple[int, int, int] = CIFAR, **keys: Any) -> Network:
    """The network, small and dense unless the keys say otherwise."""
    torch.manual_seed(0)
    small = {"model": "resnet18", "channels": 4, "sparsify": False}
    return make_model(experiment(**{**small, **keys}), shape, [10])


@pytest.mark.parametrize(
    ("channels", "classes", "count"), [(64, 10, 11_173_962), (64, 100, 11_220_132)]
)
def test_it_is_as_large_as_in_the_literature(
    experiment: Make, channels: int, classes: int, count: int
) -> None:
    exp = experiment(model="resnet18", channels=channels, sparsify=False)
    model = make_model(exp, CIFAR, [classes])
    assert sum(p.numel() for p in model.parameters()) == count  # 11.17 M, 11.22 M


def test_the_reduced_one_has_1_1_million_parameters(experiment: Make) -> None:
    """GEM's: three times fewer feature maps in all layers, counted here by hand."""
    exp = experiment(model="resnet18", channels=20, sparsify=False)
    widths, count = [20, 40, 80, 160], 27 * 20 + 2 * 20
    for before, width in zip([20, *widths], widths, strict=False):
        count += 9 * before * width + 3 * 9 * width**2 + 4 * 2 * width
        count += (before * width + 2 * width) * (before != width)
    model = make_model(exp, CIFAR, [100])
    assert sum(p.numel() for p in model.parameters()) == count + 160 * 100 + 100 == 1_109_240


def twin(model: Network, shape: tuple[int, int, int]) -> nn.Module:
    """torchvision's network with the stem of CIFAR and the same parameters."""
    other = resnet18(num_classes=10)
    other.conv1, other.maxpool = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False), nn.Identity()
    mine, its = (dict(m.state_dict()) for m in (model, other))
    names = {
        "stem.0.0": "conv1",
        "stem.0.1": "bn1",
        "heads.0": "fc",
    }
    for i in range(8):
        way, there = f"stages.{i}.", f"layer{i // 2 + 1}.{i % 2}."
        for part, place in (("first", "1"), ("second", "2")):
            names |= {
                f"{way}{part}.0": f"{there}conv{place}",
                f"{way}{part}.1": f"{there}bn{place}",
            }
        names |= {f"{way}shortcut.{n}": f"{there}downsample.{n}" for n in (0, 1)}
    for name, value in mine.items():
        layer, _, kind = name.rpartition(".")
        its[f"{names[layer]}.{kind}"] = value.clone()
    other.load_state_dict(its)
    return other


@pytest.mark.parametrize("shape", [CIFAR, MNIST, (3, 9, 17)])
def test_it_computes_what_torchvisions_does(experiment: Make, shape: tuple[int, int, int]) -> None:
    model = made(experiment, shape, channels=64)
    other, x = twin(model, shape), torch.randn(3, *shape)
    for mode in (True, False):  # with the statistics of the mini-batch, then with the running ones
        model.train(mode), other.train(mode)
        torch.testing.assert_close(model(x), other(x))
    for name, value in twin(model, shape).state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


def test_convolutions_are_drawn_as_he_et_al_draw_them(experiment: Make) -> None:
    """Normal, with a variance of 2 over the outputs of a unit."""
    for name, p in made(experiment, channels=32).named_parameters():
        if p.dim() == 4:
            wanted = math.sqrt(2 / (p.shape[0] * p.shape[2] * p.shape[3]))
            assert p.std().item() == pytest.approx(wanted, rel=0.2 if p.numel() < 5000 else 0.05), (
                name
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_can_be_cast(experiment: Make, dtype: torch.dtype) -> None:
    """Statistics of batch norm go with it, and duty cycles do not."""
    model = made(experiment, sparsify=True, **SPARSE).to(dtype)
    for mode in (True, False):
        assert model.train(mode)(torch.randn(2, *CIFAR, dtype=dtype)).dtype == dtype
    kinds = {name.rpartition(".")[2]: b.dtype for name, b in model.named_buffers()}
    assert kinds["running_var"] == dtype and kinds["duty_cycle"] == torch.float32


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (20, 4), (8, 4), (6, 2), (7, 1), (2, 1)]
)
def test_groups(experiment: Make, channels: int, groups: int) -> None:
    """The most that have two channels or more; pictures do not depend on each other."""
    model = made(experiment, channels=channels, norm="group")
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 20 and norms[0].num_groups == groups
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    x = torch.randn(3, *CIFAR)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-4)


def test_without_a_norm_a_block_begins_as_its_shortcut(experiment: Make) -> None:
    model = made(experiment, norm="none")
    assert sum(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d)) == 20
    for block in (m for m in model.modules() if isinstance(m, Addition)):
        x = torch.rand(2, block.first[0].in_channels, 8, 8)
        assert torch.equal(block(x), block.shortcut(x).relu())


@pytest.mark.parametrize("sparse", [{}, {"sparsify": True, **SPARSE}], ids=["dense", "sparse"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_it_learns(experiment: Make, norm: str, sparse: dict[str, Any]) -> None:
    """Whether bars in the noise stand or lie."""
    keys = {"norm": norm, "channels": 16, "boost_strength": 0.0, **sparse}
    model = made(experiment, (1, 16, 16), **keys)
    bars = torch.arange(16).remainder(4).lt(2).float().expand(16, 16)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(70):
        y = torch.randint(2, (32, 1, 1, 1))
        x = 0.5 * torch.randn(32, 1, 16, 16) + torch.where(y == 1, bars, bars.t())
        loss = nn.functional.cross_entropy(model(x), y.flatten())
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    assert loss.item() < 0.1


def read_by(model: Network, x: Tensor) -> dict[str, Tensor]:
    """What every convolution reads, by name."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, SparseWeights2d):
            module.register_forward_hook(lambda _, args, __, n=name: found.update({n: args[0]}))
    model(x)
    return found


def test_all_that_a_convolution_reads_is_sparse_but_the_picture(experiment: Make) -> None:
    model = made(experiment, channels=8, sparsify=True, **SPARSE)
    read = read_by(model, torch.randn(2, *CIFAR))
    assert len(read) == 20
    assert (read.pop("stem.0.0") != 0).all()
    for name, x in read.items():
        on = (x != 0).sum(1)
        assert on.max() == x.shape[1] // 4, name
    for module in model.modules():
        if isinstance(module, SparseWeights2d):
            inputs = module.weight[0].numel()
            assert (module.weight != 0).flatten(1).sum(1).eq(round(inputs / 2)).all()


def test_costs_of_the_sparse_one(experiment: Make) -> None:
    """Multiply-adds on winners: of a block's two readers, and of the classifier, all of whose
    inputs may be on."""
    model = made(experiment, channels=8, sparsify=True, **SPARSE)
    costs = {c.name: c for c in layer_costs(model, CIFAR)}
    assert sum(c.params for c in costs.values()) == sum(p.numel() for p in model.parameters())
    for name, cost in costs.items():
        share = {"stem.0.0": 0.5, "heads.0": 1.0}.get(name, 1 / 8)
        if cost.kind in ("SparseWeights2d", "Linear"):
            assert cost.active_macs == pytest.approx(cost.macs * share, rel=0.04), name
    layers = experiment(model="resnet18", channels=8, sparsify=True).layers(CIFAR)
    winners = [m for m in model.modules() if isinstance(m, KWinners2d)]
    assert sum(layer.winners for layer in layers) == len(winners) == 17
    weights = [c.params for c in costs.values() if c.kind == "SparseWeights2d"]
    assert sorted(n.inputs * n.units for n in layers) == sorted(weights)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 28), (1, 28, 5)])
def test_too_small_pictures(experiment: Make, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ModelError, match=r"(?s)9 × 9 at least"):
        made(experiment, shape)


@pytest.mark.parametrize(
    ("keys", "culprit", "words"),
    [
        ({"percent_on_conv": 0.01}, "percent_on_conv", "no winner among 20 channels"),
        ({"weight_sparsity_conv": 0.01}, "weight_sparsity_conv", "no weight for a unit of 9"),
        ({"engine": "sparse"}, "engine", "engine = sparse is for MLPs"),
        ({"engine": "stacked"}, "engine", "engine = stacked is for MLPs"),
        ({"methods": ("dgr",)}, "dgr_units", "no hidden_units"),
        (
            {"methods": ("separate",), "scenario": "task", "num_batch": 25},
            "num_batch",
            "none of 20",
        ),
        ({"context": "prototype"}, "context_units", "400 channels of a task are more than the 20"),
    ],
)
def test_what_it_cannot_be_is_told(
    experiment: Make, keys: dict[str, Any], culprit: str, words: str
) -> None:
    exp = experiment(model="resnet18", **{"channels": 20, "percent_on_conv": 0.2, **keys})
    found = [*contradictions(exp), *misfits(exp, MNIST)]
    assert any(culprit in keys and words in reason for keys, reason in found), found
