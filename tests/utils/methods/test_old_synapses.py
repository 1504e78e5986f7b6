"""Which synapses are old, and that frozen ones stay as they are to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import make_model
from models.feedforward import Feedforward
from models.synapses import attach
from tests.utils.engines.conftest import momentum_of
from utils.engines.base import Engine
from utils.methods import old_synapses
from utils.methods.old_synapses import activity, ages, factors, grow_older
from utils.methods.path_integral import DAMPING, PathIntegral

SLOW: dict[str, Any] = {"old_synapse_lr": 0.0, "weight_decay": 0.0}


def model_of(experiment: Callable, **changes: Any) -> Feedforward:
    torch.manual_seed(0)
    model = make_model(experiment(**SLOW | changes), (1, 28, 28), [10])
    attach(model, "used")
    return model


def test_a_synapse_is_used_when_its_input_is_on_and_its_unit_wins(experiment: Callable) -> None:
    model = model_of(experiment, weight_sparsity_fc=0.5)
    x = torch.rand(40, 784) * (torch.rand(40, 784) < 0.1)
    use = activity(model, x, 0)
    block = model.blocks[0]
    won = block.activation(block.linear(x)) != 0
    expected = torch.zeros(64, 784)
    for picture, winners in zip(x, won, strict=True):
        expected[winners] += picture / 40
    expected[block.linear.zero_mask] = 0
    torch.testing.assert_close(use[block.linear.weight], expected)
    torch.testing.assert_close(use[block.linear.bias], won.float().mean(0))


def test_a_weight_of_a_convolution_is_used_at_every_position(experiment: Callable) -> None:
    keys = {"cnn": True, "percent_on_conv": 0.25, "weight_sparsity_conv": 0.5}
    model = model_of(experiment, **keys)
    x = torch.rand(2, 1, 28, 28)
    use = activity(model, x, 0)
    block = model.convolutions[0]
    on = block.activation(block.linear(x)) != 0  # [pictures, channels, 24, 24]
    expected = torch.zeros(64, 1, 5, 5)
    for row in range(24):
        for column in range(24):
            patch = x[:, :, row : row + 5, column : column + 5]
            expected += torch.einsum("nc,nijk->cijk", on[:, :, row, column].float(), patch)
    expected[block.linear.zero_mask] = 0
    torch.testing.assert_close(use[block.linear.weight], expected / on[:, 0].numel())
    torch.testing.assert_close(use[block.linear.bias], on.float().mean((0, 2, 3)))


def test_pictures_are_looked_at_a_few_at_a_time(
    experiment: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = model_of(experiment), torch.rand(40, 1, 28, 28)
    at_once = activity(model, x, 0)
    monkeypatch.setattr(old_synapses, "AT_A_TIME", 16)
    for parameter, use in activity(model, x, 0).items():
        torch.testing.assert_close(use, at_once[parameter])


@pytest.mark.parametrize(
    ("rule", "expected"), [("used", [0, 1, 1, 1]), ("usage", [0, 0.25, 0.5, 1])]
)
def test_how_old(experiment: Callable, rule: str, expected: list[float]) -> None:
    model = model_of(experiment)
    weight = model.hidden[0].linear.weight
    use = torch.zeros_like(weight)
    use[0, :4] = torch.tensor([0.0, 1.0, 2.0, 9.0])  # the average of what is used is 4
    grow_older(model, {weight: use}, rule)
    grow_older(model, {weight: torch.zeros_like(weight)}, rule)  # a task that uses nothing
    assert ages(model)[weight][0, :4].tolist() == expected
    slow = factors(model, rate=0.2)[weight][0, :4]
    torch.testing.assert_close(slow, 1 - 0.8 * torch.tensor(expected))


def momenta(engine: Engine, name: str) -> Tensor:
    """The momentum of the first hidden layer's weights, [units, inputs]."""
    some: Any = engine
    if name == "sparse" and some.first.matrix is not None:
        return momentum_of(some.first.matrix)
    weight = some.model.hidden[0].linear.weight
    sgd = some.sgd if name == "sparse" else some.optimizer
    return sgd.state(weight)["momentum"]


def train(some: Any, pictures: int = 320) -> None:
    """Train on the first pictures of the task that has begun."""
    some.engine.begin_epoch(pictures // 32)
    for start in range(0, pictures, 32):
        some.step(some.stream.tasks[some.task].train.take(slice(start, start + 32)))


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize("rule", ["used", "usage", "importance"])
@pytest.mark.parametrize("keys", [{}, {"hidden_layers": 2, "weight_sparsity_fc": 0.3}])
def test_frozen_synapses_stay_to_the_bit(
    experiment: Callable,
    stream_of: Callable,
    staged: Callable,
    engine: str,
    rule: str,
    keys: dict[str, Any],
) -> None:
    if rule == "importance" and engine == "sparse":
        pytest.skip("not computed by the sparse engine")
    exp = experiment(**SLOW, **keys, engine=engine, old_synapse_rule=rule)
    stream = stream_of(exp, train=320)
    some = staged(exp, stream)
    some.train(0, 32)
    some.begin(1)
    model = some.engine.model
    before = [p.detach().clone() for p in model.parameters()]
    slow = old_synapses.factors(model, 0.0)
    train(some)
    model = some.engine.model
    frozen = 0
    for p, then in zip(model.parameters(), before, strict=True):
        still = slow[p] == 0
        frozen += int(still.sum())
        assert torch.equal(p[still], then[still])
        assert not torch.equal(p, then) or bool(still.all())
    assert frozen > 500
    first = slow[model.hidden[0].linear.weight] == 0
    assert (momenta(some.engine, engine)[first] == 0).all()


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_frozen_synapses_of_a_cnn_stay_to_the_bit(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    """Those of its convolutions too, and with synapses that grow."""
    keys = {"cnn": True, "percent_on_conv": 0.25, "dynamic": "grow", "initial_density_fc": 0.05}
    exp = experiment(**SLOW, **keys, grow_per_task=0.05, engine=engine, old_synapse_rule="used")
    stream = stream_of(exp, train=64)
    some = staged(exp, stream)
    some.train(0, 32)
    model = some.engine.model
    density = model.hidden[0].linear.zero_mask.float().mean()
    some.begin(1)
    train(some, 32)
    assert model.hidden[0].linear.zero_mask.float().mean() < density
    before = [p.detach().clone() for p in model.parameters()]
    slow = old_synapses.factors(model, 0.0)
    train(some, 64)
    for p, then in zip(model.parameters(), before, strict=True):
        still = slow[p] == 0
        assert still.any()
        assert torch.equal(p[still], then[still])
    assert not torch.equal(model.hidden[0].linear.weight, before[4])


@pytest.mark.parametrize("engine", ["dense", "sparse"])
def test_all_engines_slow_down_alike(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    keys = SLOW | {"old_synapse_lr": 0.3, "dropout": 0.0, "hidden_layers": 2}
    exp = experiment(**keys, boost_strength=0.0)
    stream = stream_of(exp, train=320)
    one = staged(experiment(**keys, boost_strength=0.0, engine="reference"), stream)
    two = staged(experiment(**keys, boost_strength=0.0, engine=engine), stream)
    for task in range(2):
        one.train(task, 32)
        two.train(task, 32)
    pairs = zip(one.engine.model.parameters(), two.engine.model.parameters(), strict=True)
    for p, q in pairs:
        torch.testing.assert_close(p, q, rtol=0, atol=2e-4)


def test_importance_is_the_path_integral(experiment: Callable) -> None:
    """Along a straight descent of a quadratic loss the integral is what the loss fell by."""
    model = model_of(experiment)
    weight = model.hidden[0].linear.weight
    path, start = PathIntegral(model.parameters()), weight.detach().clone()
    for _ in range(1000):
        weight.grad = weight.detach().clone()  # of half the square
        with torch.no_grad():
            weight.sub_(weight.grad, alpha=1e-3)
        path.add()
    fallen = (start**2 - weight.detach() ** 2) / 2
    torch.testing.assert_close(path.total[0], fallen, rtol=1e-3, atol=1e-6)
    moved = (weight.detach() - start) ** 2
    expected = path.total[0] / (moved + DAMPING)
    torch.testing.assert_close(path.importance()[weight], expected)
