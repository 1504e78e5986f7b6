"""The dense engine computes what the reference computes, in fewer passes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from models import make_model
from utils.engines.autograd import AutogradEngine
from utils.engines.batch import Batch
from utils.engines.fused import FusedEngine, without_masks

CPU = torch.device("cpu")
CASES = {
    "dense MLP": {"sparsify": False, "hidden_layers": 2},
    "masks, boosting": {"weight_sparsity_fc": 0.3, "hidden_layers": 2, "boost_strength": 2.0},
    "no momentum": {"weight_sparsity_fc": 0.5, "momentum": 0.0, "nesterov": False},
    "several heads": {"mnist_mode": "split", "num_batch": 3, "weight_sparsity_fc": 0.5},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_200_steps_equal_the_reference(experiment: Any, stream_of: Any, changes: Any) -> None:
    exp = experiment(**changes, dropout=0.0)
    stream = stream_of(exp)
    torch.manual_seed(1)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    engines = [
        AutogradEngine(exp, copy.deepcopy(model), stream, CPU),
        FusedEngine(exp, copy.deepcopy(model), stream, CPU),
    ]
    records = []
    for engine in engines:
        engine.begin_epoch(200)
        for step in range(200):
            task = stream.tasks[step * 2 // 200]
            some = torch.arange(step * 7, step * 7 + exp.mb_size) % len(task.train)
            engine.step(Batch.of(task.train.take(some), task.head))
        records.append(engine.end_epoch())
    plain, fast = (engine.model.state_dict() for engine in engines)
    assert plain.keys() == fast.keys()
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert records[0].loss == pytest.approx(records[1].loss, rel=1e-5)
    assert records[0].accuracy == pytest.approx(records[1].accuracy, abs=2e-3)
    test = stream.tasks[0].test
    both = [engine.logits(test, 0)[0] for engine in engines]
    torch.testing.assert_close(both[1], both[0], rtol=1e-3, atol=1e-3)


def test_masked_weights_stay_exactly_zero(experiment: Any, stream_of: Any) -> None:
    exp = experiment(weight_sparsity_fc=0.2, dropout=0.0)
    stream = stream_of(exp)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    engine = FusedEngine(exp, model, stream, CPU)
    engine.begin_epoch(30)
    for _ in range(30):
        engine.step(Batch.of(stream.tasks[0].train.take(slice(0, 32)), 0))
    layer = model.blocks[0].linear
    assert not layer.weight[layer.zero_mask].any()
    assert layer.weight[~layer.zero_mask].all()


def test_without_masks_shares_parameters_and_buffers(experiment: Any, stream_of: Any) -> None:
    exp = experiment(weight_sparsity_fc=0.2)
    stream = stream_of(exp)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    masked: list[Any] = []
    bare = without_masks(model, masked)
    assert {id(p) for p in bare.parameters()} == {id(p) for p in model.parameters()}
    assert bare.blocks[0].activation.duty_cycle is model.blocks[0].activation.duty_cycle
    assert [id(w) for w, _ in masked] == [id(model.blocks[0].linear.weight)]
    assert "zero_mask" in str(list(model.state_dict()))  # the model itself keeps its masks


def test_a_cnn_equals_the_reference(experiment: Any, stream_of: Any) -> None:
    exp = experiment(
        cnn=True,
        hidden_units=16,
        percent_on_conv=0.2,
        weight_sparsity_fc=0.5,
        weight_sparsity_conv=0.5,
        dropout=0.0,
        lr=0.01,
        mb_size=4,
    )
    stream = stream_of(exp)
    torch.manual_seed(1)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    engines = [
        AutogradEngine(exp, copy.deepcopy(model), stream, CPU),
        FusedEngine(exp, copy.deepcopy(model), stream, CPU),
    ]
    for engine in engines:
        engine.begin_epoch(3)
        for step in range(3):
            engine.step(Batch.of(stream.tasks[0].train.take(slice(4 * step, 4 * step + 4)), 0))
    plain, fast = (engine.model.state_dict() for engine in engines)
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-3, atol=1e-5, msg=name)
