"""The sparse engine computes what the reference engine computes, over hundreds of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models import make_model
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.engines.winners import first_layer
from utils.engines.winners.engine import SparseEngine
from utils.training.evaluation import accuracy

TWO_LAYERS = {"hidden_layers": 2, "hidden_units": 256, "percent_on_fc": 0.02}
CASES: dict[str, dict[str, Any]] = {
    "plain momentum": {"nesterov": False},
    "no momentum": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.01},
    "no boosting, no decay": {"boost_strength": 0.0, "weight_decay": 0.0},
    "a boost that fades": {"boost_strength": 2.0, "boost_strength_factor": 0.5},
    "more winners in evaluation": {"k_inference_factor": 2.0},
    "masked weights": {"weight_sparsity_fc": 0.3},
    "all units win": {"hidden_units": 32, "percent_on_fc": 1.0},
    "two layers": TWO_LAYERS,
    "two layers without momentum": {**TWO_LAYERS, "momentum": 0.0, "nesterov": False},
    "two layers, masked": {**TWO_LAYERS, "weight_sparsity_fc": 0.1, "weight_decay": 0.01},
    "three layers": {**TWO_LAYERS, "hidden_layers": 3, "hidden_units": 128, "percent_on_fc": 0.05},
}
SPLIT = {"mnist_mode": "split", "num_batch": 3, "scenario": "task"}


@pytest.fixture(params=["full product", "rounded"])
def first_product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of the first layer, whatever this processor is good at."""
    monkeypatch.setattr(first_layer, "has_fast_int8", lambda: request.param == "rounded")
    monkeypatch.setattr(first_layer, "ROUNDED", 1)


def assert_alike(pair: Any, atol: float) -> None:
    for name, one, two in pair.state():
        torch.testing.assert_close(one, two, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def assert_same_logits(pair: Any, task: Any) -> None:
    (one, labels), (two, same) = (engine.logits(task.test, task.head) for engine in pair.engines)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    assert torch.equal(labels, same)


def assert_same_epoch(one: Any, two: Any, tolerance: float) -> None:
    assert two.loss == pytest.approx(one.loss, abs=tolerance)
    assert (two.accuracy, two.active) == (one.accuracy, one.active)
    assert two.active_std == one.active_std
    np.testing.assert_array_equal(one.unit_on, two.unit_on)


def test_the_default_network_on_real_pictures(
    experiment: Callable, stream_of: Callable, side_by_side: Callable, first_product: None
) -> None:
    """210 steps on two tasks: 4 of 512 units, Nesterov momentum, decay, boosting, dropout."""
    exp = experiment(hidden_units=512, percent_on_fc=4 / 512)
    stream = stream_of(exp, train=35 * exp.mb_size - 7, test=500)
    pair = side_by_side(exp, stream, torch.float64)
    for task in stream.tasks:
        for _ in range(3):
            assert_same_epoch(*pair.epoch(task), tolerance=1e-6)
            assert_same_logits(pair, stream.tasks[0])
    assert pair.masks.step == 210
    assert_alike(pair, atol=1e-9)
    assert (pair.reference.model.hidden[0].activation.duty_cycle > 0).sum() > 100
    tests = [[accuracy(engine, t, 0)[0] for t in stream.tasks] for engine in pair.engines]
    np.testing.assert_array_equal(*tests)
    assert max(tests[0]) > 0.5  # something was learnt, so something was compared


def test_everything_at_once_over_two_hundred_steps(
    experiment: Callable, stream_of: Callable, side_by_side: Callable, first_product: None
) -> None:
    """Two hidden layers, weight masks, a head a task, boosting that fades, all on Split MNIST."""
    exp = experiment(
        **{**TWO_LAYERS, **SPLIT, "hidden_units": 512},
        weight_sparsity_fc=0.4,
        boost_strength=1.5,
        boost_strength_factor=0.8,
        duty_cycle_period=300,
        k_inference_factor=1.5,
        weight_decay=1e-3,
        lr=0.05,
    )
    stream = stream_of(exp, train=34 * exp.mb_size + 5, test=300)
    pair = side_by_side(exp, stream, torch.float64)
    for task in stream.tasks:
        untouched = [h.weight.detach().clone() for h in pair.sparse.model.heads]
        for _ in range(2):
            assert_same_epoch(*pair.epoch(task), tolerance=1e-6)
            assert_same_logits(pair, stream.tasks[0])
        for i, head in enumerate(pair.sparse.model.heads):
            assert torch.equal(head.weight, untouched[i]) == (i != task.head)
    assert pair.masks.step == 210
    assert_alike(pair, atol=1e-9)
    for block in pair.sparse.model.blocks:
        assert (block.linear.weight[block.linear.zero_mask] == 0).all()
    first, second = ([accuracy(e, t, 0)[0] for t in stream.tasks] for e in pair.engines)
    assert first == second


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_other_settings(
    experiment: Callable, stream_of: Callable, side_by_side: Callable, changes: dict[str, Any]
) -> None:
    exp = experiment(**changes)
    stream = stream_of(exp, train=20 * exp.mb_size + 3)
    pair = side_by_side(exp, stream, torch.float64)
    for task in stream.tasks:
        assert_same_epoch(*pair.epoch(task), tolerance=1e-6)
        assert_same_logits(pair, stream.tasks[0])
    assert_alike(pair, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0, "nesterov": False},
        {"momentum": 1e-70},
        {"k_inference_factor": 1000.0},  # all units win in evaluation
        {"k_inference_factor": 127.5},  # all but one
    ],
)
def test_settings_that_only_one_way_of_the_first_layer_minds(
    experiment: Callable,
    stream_of: Callable,
    side_by_side: Callable,
    first_product: None,
    changes: dict[str, Any],
) -> None:
    exp = experiment(hidden_units=256, percent_on_fc=2 / 256, **changes)
    stream = stream_of(exp, train=64)
    pair = side_by_side(exp, stream, torch.float64)
    for task in stream.tasks:
        assert_same_epoch(*pair.epoch(task), tolerance=1e-6)
        assert_same_logits(pair, stream.tasks[0])


def test_in_single_precision_the_difference_is_rounding(
    experiment: Callable, stream_of: Callable, side_by_side: Callable, first_product: None
) -> None:
    """210 steps. Where two units are equal but for rounding either may win, so a few may differ."""
    exp = experiment(
        hidden_layers=2,
        hidden_units=512,
        percent_on_fc=0.01,
        weight_sparsity_fc=0.5,
    )
    stream = stream_of(exp, train=35 * exp.mb_size, test=500)
    pair = side_by_side(exp, stream, torch.float32)
    epochs = [pair.epoch(task) for task in stream.tasks for _ in range(3)]
    assert pair.masks.step == 210
    for one, two in epochs:
        assert two.loss == pytest.approx(one.loss, rel=0.02)
        assert two.accuracy == pytest.approx(one.accuracy, abs=0.02)
        assert abs(one.unit_on - two.unit_on).sum() <= 0.05 * one.unit_on.sum()
    for name, one, two in pair.state():
        distance = (one.double() - two.double()).norm()
        assert distance <= 0.05 * one.double().norm() + 1e-6, name


def test_it_keeps_as_many_winners_as_dropout_says(
    experiment: Callable, stream_of: Callable
) -> None:
    """Its own dropout: 8 of 64 units win, of which a fraction 0.75 is kept and scaled by 4 / 3."""
    exp = experiment(engine="sparse", dropout=0.25)
    stream = stream_of(exp, train=2000)
    torch.manual_seed(0)
    engine = make_engine(
        exp, make_model(exp, stream.input_shape, [10]), stream, torch.device("cpu")
    )
    scales = engine.keep(0, torch.zeros(1000, 8, dtype=torch.int64))
    assert scales.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (scales > 0).float().mean() == pytest.approx(0.75, abs=0.02)
    engine.begin_epoch(1)
    engine.step(Batch.of(stream.tasks[0].train, 0))
    assert engine.end_epoch().active == pytest.approx(100 * 0.125 * 0.75, rel=0.03)


def test_which_models_it_knows(experiment: Callable) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")

    def declines(device: torch.device = cpu, **changes: Any) -> str:
        exp = experiment(**changes)
        return SparseEngine.declines(exp, make_model(exp, (1, 28, 28), [10]), device)

    assert not declines()
    assert not declines(weight_sparsity_fc=0.5, hidden_layers=3)
    assert "CPUs" in declines(device=cuda)
    assert "own k-winners" in declines(sparsify=False)
    assert "own k-winners" in declines(cnn=True, percent_on_conv=0.1)
    assert "lazy updates" in declines(lr=1.0, weight_decay=1.0, nesterov=False)  # no basis
