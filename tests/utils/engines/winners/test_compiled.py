"""Compiled loops compute what torch's operations do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from benchmarks.stream import TaskStream
from models import make_model
from models.synapses import Weights
from sparse_syn.functional import kwinners
from sparse_syn.k_winners import KWinners
from tests.utils.engines.conftest import momentum_of
from utils.engines.batch import Batch, Part
from utils.engines.choose import make_engine
from utils.engines.kept import FunctionCache
from utils.engines.meter import Meter
from utils.engines.winners import around, compiled, loops
from utils.engines.winners.choose import Winners
from utils.engines.winners.classifier import Classifier
from utils.engines.winners.hidden_layer import HiddenLayer
from utils.engines.winners.rounded import RoundedLayer
from utils.optimizers.momentum import SGD
from utils.optimizers.sgd import Basis

SEEDS = st.integers(0, 2**16)
CPU = torch.device("cpu")


def numbers(generator: torch.Generator, *shape: int, ties: bool = False) -> Tensor:
    """Normal numbers; with ties whole ones, of which sums are exact."""
    drawn = torch.randn(shape, generator=generator)
    return (2 * drawn).round() if ties else drawn


def weights_of(generator: torch.Generator, n: int, m: int, *, masked: bool, ties: bool) -> Weights:
    mask = torch.rand(n, m, generator=generator) < 0.5 if masked else None
    weight = numbers(generator, n, m, ties=ties)
    return Weights(
        weight if mask is None else weight.masked_fill(mask, 0),
        numbers(generator, n, ties=ties),
        mask,
    )


def winners_of(generator: torch.Generator, batch: int, n: int, k: int, ties: bool) -> Winners:
    """Some of n units, half of them dropped."""
    unit = torch.rand(batch, n, generator=generator).argsort(1)[:, :k]
    value = numbers(generator, batch, k, ties=ties)
    return Winners(unit, value * (torch.rand(batch, k, generator=generator) < 0.5))


def sgd_of(experiment: Callable, momentum: float, nesterov: bool) -> tuple[SGD, Basis]:
    exp = experiment(lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    basis = Basis.of(exp.lr, exp.momentum, exp.weight_decay, exp.nesterov)
    assert basis is not None
    return SGD(exp), basis


def stepped(
    weight: Tensor, velocity: Tensor, gradient: Tensor, momentum: tuple[float, bool]
) -> tuple[Tensor, Tensor]:
    """A step of SGD by its formula, with the settings of `sgd_of`."""
    gradient = gradient + 0.01 * weight
    velocity = momentum[0] * velocity + gradient
    return weight - 0.1 * (gradient + momentum[0] * velocity if momentum[1] else velocity), velocity


def on(winners: Winners, n: int) -> Tensor:
    """The activations that indices and values stand for."""
    dense = winners.value.new_zeros(len(winners.unit), n)
    return dense.scatter_add_(1, winners.unit, winners.value)


MOMENTA = st.sampled_from([(0.9, True), (0.9, False), (0.0, False)])


@settings(max_examples=40)
@given(st.data(), st.booleans(), st.booleans(), st.booleans(), MOMENTA, SEEDS)
def test_a_hidden_layer(
    experiment: Callable,
    data: st.DataObject,
    masked: bool,
    scaled: bool,
    ties: bool,
    momentum: tuple[float, bool],
    seed: int,
) -> None:
    batch, n, m = (data.draw(st.integers(1, most)) for most in (6, 40, 600))
    k = data.draw(st.integers(1, max(m // 16, 1)))
    before = data.draw(st.integers(1, n))
    ties = ties and not momentum[0]  # weights in two parts are rounded, and ties with them
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(generator, m, n, masked=masked, ties=ties)
    boost = torch.rand(m, generator=generator) if data.draw(st.booleans()) else None
    sgd, basis = sgd_of(experiment, *momentum)
    factors = torch.full_like(weights.weight, 0.5 if scaled else 1.0)
    sgd.factors = {weights.weight: factors} if scaled else {}
    if masked:
        factors *= ~weights.zero_mask
    layer = HiddenLayer(weights, sgd, basis)
    dense, velocity = weights.weight.double(), torch.zeros(m, n, dtype=torch.float64)
    for _ in range(1 if ties else 3):
        inputs = winners_of(generator, batch, n, before, ties)
        x = on(inputs, n)
        found = layer.winners(inputs, boost, k, break_ties=False)
        values = linear(x, dense.float(), weights.bias)
        ranks = values if boost is None else values * boost
        kth = ranks.topk(k, 1).values[:, -1:]
        unsure = (ranks - kth).abs().topk(min(k + 1, m), 1, largest=False).values[:, -1:] < 1e-5
        if ties or not unsure.any():
            torch.testing.assert_close(on(found, m), values * (ranks >= kth))
        gradient = numbers(generator, *found.unit.shape)
        errors = on(Winners(found.unit, gradient), m)
        back = layer.backward(inputs, found.unit, gradient)
        torch.testing.assert_close(back, (errors.double() @ dense).float().gather(1, inputs.unit))
        torch.testing.assert_close(sgd.gradients[weights.bias], errors.sum(0))
        dense, velocity = stepped(
            dense, velocity, errors.T.double() @ x.double() * factors, momentum
        )
        torch.testing.assert_close(layer.matrix.weight().t(), dense.float())
        if momentum[0]:
            torch.testing.assert_close(momentum_of(layer.matrix).t(), velocity.float())


@settings(max_examples=40)
@given(st.data(), st.booleans(), st.booleans(), MOMENTA, SEEDS)
def test_a_first_layer(
    experiment: Callable,
    data: st.DataObject,
    masked: bool,
    pixels: bool,
    momentum: tuple[float, bool],
    seed: int,
) -> None:
    """The winners are those of the exact weights, after steps of which some rows got gradients."""
    batch, inputs, units = (data.draw(st.integers(2, most)) for most in (6, 70, 300))
    k = data.draw(st.integers(1, min(units, 5)))
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(generator, units, inputs, masked=masked, ties=False)
    sgd, basis = sgd_of(experiment, *momentum)
    factors = torch.rand(units, inputs, generator=generator)
    sgd.factors = {weights.weight: factors}
    layer = RoundedLayer(weights, sgd, basis, half=False, grain=1 / 255 if pixels else 0.0)
    boost = torch.rand(units, generator=generator) if data.draw(st.booleans()) else None
    dense, velocity = weights.weight.double(), torch.zeros(units, inputs, dtype=torch.float64)
    for _ in range(12):
        x = numbers(generator, batch, inputs)
        x = (x.abs() * 60).clamp(max=255).round() / 255 if pixels else x
        held = layer.matrix.weight()
        torch.testing.assert_close(held, dense.float(), rtol=1e-3, atol=1e-3)
        found = layer.train_winners(x, boost, k)
        values = linear(x, held, weights.bias)
        ranks = values if boost is None else values * boost
        kth = ranks.topk(k, 1).values[:, -1:]
        expected = values * (ranks >= kth)
        unsure = (ranks - kth).abs().topk(min(k + 1, units), 1, largest=False).values[:, 1:2] < 1e-5
        if not unsure.any():
            torch.testing.assert_close(on(found, units), expected, rtol=1e-4, atol=1e-4)
        gradient = numbers(generator, *found.unit.shape) / 30
        layer.backward(x, found.unit, gradient)
        full = torch.zeros(units, inputs, dtype=torch.float64)
        for b, i in torch.cartesian_prod(*map(torch.arange, found.unit.shape)):
            full[found.unit[b, i]] += gradient[b, i].double() * x[b].double()
        full *= factors if not masked else factors * ~weights.zero_mask
        dense, velocity = stepped(dense, velocity, full, momentum)


@pytest.mark.parametrize("grain", [0.0, 1 / 255])
def test_ties_of_a_first_layer_all_win(experiment: Callable, grain: float) -> None:
    weights = Weights(torch.zeros(300, 8), torch.zeros(300), None)
    weights.weight[:8] = torch.eye(8)
    weights.weight[100:110, 7] = 1.0
    layer = RoundedLayer(weights, *sgd_of(experiment, 0.9, True), half=False, grain=grain)
    found = layer.train_winners(torch.eye(8), None, 1)
    expected = kwinners(linear(torch.eye(8), weights.weight), torch.zeros(300), 1, 0.0)
    assert torch.equal(on(found, 300), expected)
    assert found.unit.shape == (8, 11)


@pytest.mark.parametrize("half", [False, True])
def test_not_a_number_shows_in_the_first_layer(experiment: Callable, half: bool) -> None:
    weights = weights_of(torch.Generator().manual_seed(0), 300, 8, masked=False, ties=False)
    weights.weight[17, 3] = float("nan")
    layer = RoundedLayer(weights, *sgd_of(experiment, 0.9, True), half=half, grain=0.0)
    assert layer.train_winners(torch.ones(2, 8), None, 2).value.isnan().any()


def test_not_a_number_shows_in_a_hidden_layer(experiment: Callable) -> None:
    weights = weights_of(torch.Generator().manual_seed(0), 300, 8, masked=False, ties=False)
    weights.weight[17, 3] = float("nan")
    layer = HiddenLayer(weights, *sgd_of(experiment, 0.9, True))
    inputs = Winners(torch.tensor([[3]]), torch.ones(1, 1))
    assert layer.winners(inputs, None, 2, break_ties=False).value.isnan().any()


def test_in_bf16_values_are_products_of_rounded_weights(experiment: Callable) -> None:
    """At first of the weights as they are; after steps they are as near as rounding is."""
    generator = torch.Generator().manual_seed(0)
    weights = weights_of(generator, 400, 64, masked=False, ties=False)
    layer = RoundedLayer(weights, *sgd_of(experiment, 0.9, True), half=True, grain=0.0)
    for _ in range(30):
        x = numbers(generator, 8, 64)
        held = layer.matrix.weight()
        found = layer.train_winners(x, None, 4)
        rounded = linear(x.bfloat16().float(), held.bfloat16().float(), weights.bias)
        error = (found.value - rounded.gather(1, found.unit)).abs()
        assert (error <= 2**-7 * (x.norm(dim=1, keepdim=True) * held.norm(dim=1).max())).all()
        drift = layer.rounded.float() * layer.matrix.scale[0] - held
        assert (drift.norm(dim=1) <= 2**-8 * held.norm(dim=1)).all()
        layer.backward(x, found.unit, numbers(generator, 8, 4) / 100)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_goes_on_to_the_bit(
    experiment: Callable, stream_of: Callable, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = experiment(hidden_units=2048, percent_on_fc=4 / 2048, precision=precision)
    stream = stream_of(exp, train=20 * exp.mb_size)

    def engine() -> Any:
        torch.manual_seed(0)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        made = make_engine(exp, model, stream, CPU)
        made.begin_epoch(20)
        return made

    def train(engine: Any, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            part = slice(step * exp.mb_size, (step + 1) * exp.mb_size)
            engine.step(Batch.of(stream.tasks[0].train.take(part), 0))

    one, two = engine(), engine()
    assert isinstance(one.first, RoundedLayer)
    train(one, range(12))
    two.load_state_dict(one.state_dict())
    for each in (one, two):
        train(each, range(12, 20))
    first, second = (each.model.state_dict() for each in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 7), SEEDS)
def test_a_classifier(experiment: Callable, batch: int, n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(generator, classes, n, masked=False, ties=False)
    inputs = winners_of(generator, batch, n, min(n, 4), ties=False)
    error, x = numbers(generator, batch, classes), on(inputs, n)
    head = Classifier(weights, sgd_of(experiment, 0.9, True)[0])
    torch.testing.assert_close(head.logits(inputs), linear(x, weights.weight, weights.bias))
    head.begin()
    back = head.backward(inputs, error)
    torch.testing.assert_close(back, (error @ weights.weight).gather(1, inputs.unit))
    torch.testing.assert_close(head.sgd.gradients[weights.weight], error.T @ x)
    torch.testing.assert_close(head.sgd.gradients[weights.bias], error.sum(0))


@given(st.integers(1, 9), st.integers(1, 9), st.data(), SEEDS)
def test_cross_entropy(batch: int, classes: int, data: st.DataObject, seed: int) -> None:
    outputs = data.draw(st.none() | st.integers(1, classes))
    weight = data.draw(st.sampled_from([1.0, 0.25]))
    generator = torch.Generator().manual_seed(seed)
    logits = 30 * numbers(generator, batch, classes)
    labels = torch.randint(outputs or classes, (batch,), generator=generator)
    part = Part(_samples(batch), 0, weight, outputs)
    found = around.errors([logits], [labels], Batch((part,)))
    assert found is not None
    leaf = logits.clone().requires_grad_()
    loss = weight * cross_entropy(leaf[:, :outputs], labels)
    loss.backward()
    torch.testing.assert_close(found[1], loss.detach())
    torch.testing.assert_close(found[0][0], leaf.grad)


def test_a_label_that_is_none_of_the_outputs_is_left_to_torch() -> None:
    batch = Batch((Part(_samples(1), 0),))
    assert around.errors([torch.zeros(1, 3)], [torch.tensor([-1])], batch) is None
    assert around.errors([torch.zeros(1, 3)], [torch.tensor([3])], batch) is None


def _samples(count: int) -> Any:
    return range(count)


@given(st.integers(1, 200), st.integers(1, 2000), SEEDS)
def test_duty_cycles_are_the_same_to_the_bit(batch: int, period: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, two = (KWinners(50, 0.1, duty_cycle_period=period) for _ in range(2))
    for _ in range(3):
        winners = winners_of(generator, batch, 50, 5, ties=False)
        around.count_wins(one, winners)
        two.update_duty_cycle(on(winners, 50))
        assert torch.equal(one.duty_cycle, two.duty_cycle)
        assert torch.equal(one.learning_iterations, two.learning_iterations)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_the_step_of_few_parameters(
    experiment: Callable, momentum: float, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(around, "SMALL", 50)
    exp = experiment(momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    found = []
    for kind in (SGD, around.CompiledSGD):
        generator, sgd = torch.Generator().manual_seed(0), kind(exp)
        parameters = [numbers(generator, 5, 10), numbers(generator, 10, 10)]
        sgd.factors = {parameters[0]: torch.full((5, 10), 0.5)}
        for _ in range(3):
            for p in parameters:
                sgd.gradient(p).copy_(numbers(generator, *p.shape))
            sgd.step()
        found.append(parameters + [sgd.momenta[p] for p in parameters if momentum])
    torch.testing.assert_close(*found)


def test_what_is_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    meters = Meter(3, 20, CPU), around.CompiledMeter(3, 20, CPU)
    for size in (8, 5):
        winners = winners_of(generator, size, 20, 3, ties=False)
        logits, labels = numbers(generator, size, 4, ties=True), torch.arange(size) % 4
        for meter in meters:
            meter.add_winners(*winners)
            meter.add(torch.tensor(0.5 * size), logits, labels)
    one, two = (meter.totals() for meter in meters)
    torch.testing.assert_close(one, two, equal_nan=True)


@pytest.mark.parametrize("changes", [{}, {"mnist_mode": "split", "num_batch": 2}])
def test_inputs_are_the_streams(
    experiment: Callable, stream_of: Callable, changes: dict[str, Any]
) -> None:
    stream: TaskStream = stream_of(experiment(**changes), train=50)
    for task in stream.tasks:
        expected = stream.inputs(stream.train, task.train).flatten(1)
        assert torch.equal(around.inputs(stream, stream.train, task.train), expected)


@pytest.fixture
def broken_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "numba", None)
    for module in ("utils.engines.winners.loops", "utils.engines.kept"):
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.delattr(module)
    compiled.loops.cache_clear()
    yield
    compiled.loops.cache_clear()


def test_numba_that_cannot_be_imported_is_told(broken_numba: None) -> None:
    with pytest.raises(compiled.LoopsError, match=r"(?s)cannot be compiled.*requirements\.txt"):
        compiled.loops()


def test_without_numba_another_engine_computes(
    experiment: Callable, stream_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("winners.engine", "fused", "passes"):
        monkeypatch.setattr(f"utils.engines.{module}.has_numba", lambda: False)
    exp = experiment(hidden_units=256, percent_on_fc=4 / 256)
    stream = stream_of(exp, train=exp.mb_size)
    made = make_engine(exp, make_model(exp, stream.input_shape, [10]), stream, CPU)
    made.begin_epoch(1)
    made.step(Batch.of(stream.tasks[0].train, 0))
    assert made.name == "dense"
    assert "numba" in made.why_not_faster


class Fault(Exception):
    """Of a file system."""


@pytest.mark.parametrize("way", ["load_overload", "save_overload"])
def test_a_fault_of_the_cache_costs_time_alone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Fault

    monkeypatch.setattr(FunctionCache, way, broken)

    def double(x: int) -> int:
        return 2 * x

    assert loops._kernel(double)(21) == 42


def test_no_folder_for_the_cache_costs_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", nowhere)

    def double(x: int) -> int:
        return 2 * x

    assert loops._kernel(double)(21) == 42
