"""The reference engine against a training loop written out, and what a step leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models import make_model
from utils.engines.autograd import AutogradEngine
from utils.engines.batch import Batch

CPU = torch.device("cpu")
SPLIT = {"mnist_mode": "split", "num_batch": 3, "scenario": "task"}


def engine_of(exp: Any, stream: Any) -> AutogradEngine:
    torch.manual_seed(exp.seed)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    return AutogradEngine(exp, model, stream, CPU)


def train(engine: AutogradEngine, task: Any, size: int = 32) -> Any:
    starts = range(0, len(task.train), size)
    engine.begin_epoch(len(starts))
    for start in starts:
        engine.step(Batch.of(task.train.take(slice(start, start + size)), task.head))
    return engine.end_epoch()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_dense_network_by_hand(
    experiment: Callable, stream_of: Callable, momentum: float
) -> None:
    """Forward, backward and SGD in plain tensors, without autograd, torch.optim or modules."""
    exp = experiment(
        sparsify=False, dropout=0.0, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01
    )
    stream = stream_of(exp, train=6 * 32 + 9)
    engine = engine_of(exp, stream)
    task = stream.tasks[1]
    linear, head = engine.model.hidden[0].linear, engine.model.heads[0]
    w = [p.detach().double() for p in (linear.weight, linear.bias, head.weight, head.bias)]
    b = [torch.zeros_like(p) for p in w]
    x = stream.inputs(stream.train, task.train).flatten(1).double()
    labels = stream.labels(stream.train, task.train)
    loss = 0.0
    for _ in range(2):
        epoch = train(engine, task)
        loss = 0.0
        for start in range(0, len(x), 32):
            inputs, y = x[start : start + 32], labels[start : start + 32]
            hidden = (inputs @ w[0].T + w[1]).clamp(min=0)
            error = (hidden @ w[2].T + w[3]).softmax(1)
            loss -= error[range(len(y)), y].log().sum().item()
            error[range(len(y)), y] -= 1
            error /= len(y)
            back = (error @ w[2]) * (hidden > 0)
            gradients = [back.T @ inputs, back.sum(0), error.T @ hidden, error.sum(0)]
            for i, gradient in enumerate(gradients):
                g = gradient + 0.01 * w[i]
                b[i] = momentum * b[i] + g
                w[i] = w[i] - exp.lr * (g + momentum * b[i])
        assert epoch.loss == pytest.approx(loss / len(x), rel=1e-4)
    ours = [linear.weight, linear.bias, head.weight, head.bias]
    for p, expected in zip(ours, w, strict=True):
        torch.testing.assert_close(p.detach().double(), expected, rtol=0, atol=1e-5)
    assert loss / len(x) < 2.2  # it learns


def test_a_sparse_network_by_torchs_own_means(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(weight_sparsity_fc=0.3, hidden_layers=2, dropout=0.3, weight_decay=0.01)
    stream = stream_of(exp)
    engine, twin = engine_of(exp, stream), engine_of(exp, stream).model
    sgd = torch.optim.SGD(
        twin.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, foreach=False
    )
    task = stream.tasks[0]
    torch.manual_seed(1)
    for _ in range(3):
        train(engine, task)
    torch.manual_seed(1)
    for _ in range(3):
        for start in range(0, len(task.train), 32):
            samples = task.train.take(slice(start, start + 32))
            logits = twin(stream.inputs(stream.train, samples))
            sgd.zero_grad()
            cross_entropy(logits, stream.labels(stream.train, samples)).backward()
            sgd.step()
    for p, q in zip(engine.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    for block, other in zip(engine.model.blocks, twin.blocks, strict=True):
        torch.testing.assert_close(block.activation.duty_cycle, other.activation.duty_cycle)


def test_only_the_head_in_use_changes(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(**SPLIT, weight_decay=0.1)
    stream = stream_of(exp)
    engine = engine_of(exp, stream)
    for task in (*stream.tasks, stream.tasks[0]):
        before = [[p.clone() for p in head.parameters()] for head in engine.model.heads]
        train(engine, task)
        for i, head in enumerate(engine.model.heads):
            same = [torch.equal(*pair) for pair in zip(before[i], head.parameters(), strict=True)]
            assert same == [i != task.head] * 2


def test_an_epoch_ends_with_a_weaker_boost(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(boost_strength=2.0, boost_strength_factor=0.5, hidden_layers=2)
    stream = stream_of(exp, train=64)
    engine = engine_of(exp, stream)
    for strength in (1.0, 0.5, 0.25):
        train(engine, stream.tasks[0])
        for block in engine.model.blocks:
            assert block.activation.boost_strength.item() == strength


def test_what_an_epoch_reports(experiment: Callable, stream_of: Callable) -> None:
    """With a learning rate of next to nothing the model stays what it was."""
    exp = experiment(sparsify=False, dropout=0.0, lr=1e-12, momentum=0.0, nesterov=False)
    stream = stream_of(exp, train=77)
    engine = engine_of(exp, stream)
    task = stream.tasks[0]
    epoch = train(engine, task)
    x = stream.inputs(stream.train, task.train)
    labels = stream.labels(stream.train, task.train)
    with torch.no_grad():
        on = engine.model.features(x) != 0
        logits = engine.model(x)
    assert epoch.loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert epoch.accuracy == (logits.argmax(1) == labels).sum().item() / 77
    assert epoch.unit_on.tolist() == on.sum(0).tolist()
    parts = [100 * part.float().mean().item() for part in on.split(32)]
    assert epoch.active == pytest.approx(sum(parts) / 3, rel=1e-5)


def test_statistics_can_be_left_out(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(record_stats=False)
    stream = stream_of(exp, train=64)
    epoch = train(engine_of(exp, stream), stream.tasks[0])
    assert epoch.unit_on.sum() == 0
    assert math.isnan(epoch.active)
    assert epoch.loss > 0


def test_training_goes_on_after_evaluation(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment()
    stream = stream_of(exp)
    engine = engine_of(exp, stream)
    engine.logits(stream.tasks[0].test, 0)
    assert engine.model.training
    # Dropout is on: of 8 winners about half are left.
    assert train(engine, stream.tasks[0]).active == pytest.approx(100 * 0.125 / 2, rel=0.1)


def test_evaluation_drops_nothing_and_uses_its_own_number_of_winners(
    experiment: Callable, stream_of: Callable
) -> None:
    exp = experiment(k_inference_factor=2.0)
    stream = stream_of(exp)
    engine = engine_of(exp, stream)
    logits, labels = engine.logits(stream.tasks[0].test, 0)
    features = engine.model.eval().features(stream.inputs(stream.test, stream.tasks[0].test))
    assert features.count_nonzero(1).unique().tolist() == [16]
    torch.testing.assert_close(logits, engine.model.heads[0](features))
    assert labels.tolist() == stream.test.y[stream.tasks[0].test.rows].tolist()
    assert not logits.requires_grad


def test_a_model_of_any_kind_can_be_trained(experiment: Callable, stream_of: Callable) -> None:
    """Layers that the engine has never heard of, as those of nupic.torch are."""
    exp = experiment(sparsify=False)
    stream = stream_of(exp, train=320)
    torch.manual_seed(0)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    model.hidden[0].activation = nn.Softplus()
    engine = AutogradEngine(exp, model, stream, CPU)
    losses = [train(engine, stream.tasks[0]).loss for _ in range(3)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.gpu
@pytest.mark.parametrize("pictures", ["cpu", "cuda"])
def test_on_a_gpu_as_on_the_cpu(experiment: Callable, stream_of: Callable, pictures: str) -> None:
    exp = experiment(dropout=0.0)
    stream = stream_of(exp)
    cpu = engine_of(exp, stream)
    torch.manual_seed(exp.seed)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    moved = stream.to(torch.device(pictures))
    gpu = AutogradEngine(exp, model, moved, torch.device("cuda"))
    one, two = train(cpu, stream.tasks[0]), train(gpu, moved.tasks[0])
    assert two.loss == pytest.approx(one.loss, rel=1e-2)
    logits, _ = gpu.logits(moved.tasks[0].test, 0)
    torch.testing.assert_close(
        logits.cpu(), cpu.logits(stream.tasks[0].test, 0)[0], rtol=0.05, atol=0.05
    )
