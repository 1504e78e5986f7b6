"""Adam by its published formula, plain and fused, and what engines do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from utils.engines.batch import Batch
from utils.optimizers import adam, adamw, sgd
from utils.optimizers.base import TorchOptimizer


def published(w: torch.Tensor, gradients: list[torch.Tensor], exp: Any, decoupled: bool) -> Any:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    b1, b2 = exp.adam_beta1, exp.adam_beta2
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            w = w - exp.lr * exp.weight_decay * w
        else:
            g = g + exp.weight_decay * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - exp.lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + exp.adam_eps)
    return w


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_it_is_the_published_step(experiment: Callable, fused: bool, decoupled: bool) -> None:
    exp = experiment(optimizer="adam", lr=0.01, weight_decay=0.1, adam_beta1=0.8)
    w = torch.nn.Parameter(torch.randn(5, 3))
    start = w.detach().clone()
    optimizer = (adamw if decoupled else adam).make(exp, [w], fused=fused)
    gradients = [torch.randn(5, 3) for _ in range(6)]
    for g in gradients[:3]:
        optimizer.apply([(w, g.clone())])
    second = torch.nn.Parameter(w.detach().clone())
    other = (adamw if decoupled else adam).make(exp, [second], fused=fused)
    other.restore(second, {k: v.clone() for k, v in optimizer.state(w).items()})
    for g in gradients[3:]:
        optimizer.apply([(w, g.clone())])
        other.apply([(second, g.clone())])
    torch.testing.assert_close(w.detach(), published(start, gradients, exp, decoupled))
    assert torch.equal(w, second)  # it goes on where it was, to the bit


@pytest.mark.parametrize("optimizer", [sgd, adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("fused", [False, True])
def test_factors_scale_updates(experiment: Callable, optimizer: Any, fused: bool) -> None:
    """An Adam whose gradients were scaled would move as far as without."""
    exp = experiment(optimizer=optimizer.__name__.split(".")[-1], lr=0.1, weight_decay=0.0)
    make = optimizer.make
    g = torch.randn(4, 4)
    moved = []
    for factor in (1.0, 0.25, 0.0):
        w = torch.nn.Parameter(torch.ones(4, 4))
        made = make(exp, [w], fused=fused)
        made.factors = {w: torch.full((4, 4), factor)}
        made.apply([(w, g.clone())])
        moved.append(1 - w.detach())
    torch.testing.assert_close(moved[1], 0.25 * moved[0], rtol=1e-4, atol=1e-6)
    assert not moved[2].any()


@pytest.mark.parametrize("optimizer", [sgd, adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_restart_forgets_all_steps(experiment: Callable, optimizer: Any, fused: bool) -> None:
    exp = experiment(optimizer=optimizer.__name__.split(".")[-1], lr=0.1, weight_decay=0.0)
    make = optimizer.make
    g = torch.randn(3)
    w, fresh = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    used, new = make(exp, [w], fused=fused), make(exp, [fresh], fused=fused)
    used.apply([(w, torch.randn(3))])
    used.restart()
    with torch.no_grad():
        w.copy_(fresh)
    used.apply([(w, g.clone())])
    new.apply([(fresh, g.clone())])
    torch.testing.assert_close(w, fresh)


def test_both_engines_take_the_same_steps(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    ends = []
    for engine in ("reference", "dense"):
        exp = experiment(optimizer="adam", lr=0.001, engine=engine, dropout=0.0, sparsify=False)
        stream = stream_of(exp)
        trainer, _, _ = built(exp, stream)
        trainer.begin_epoch(5)
        for i in range(5):
            trainer.step(Batch.of(stream.tasks[0].train.take(slice(32 * i, 32 * i + 32)), 0))
        ends.append([p.detach().clone() for p in trainer.model.parameters()])
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", [adam, adamw])
def test_it_goes_on_wherever_channels_lie(
    experiment: Callable, optimizer: Any, fused: bool
) -> None:
    """What a checkpoint holds is in the order of its indices, a convolution's weight may not be."""
    exp = experiment(optimizer="adam", lr=0.01)
    start = torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    gradients = [torch.randn_like(start) for _ in range(4)]
    w = torch.nn.Parameter(start.clone())
    one = optimizer.make(exp, [w], fused=fused)
    for g in gradients[:2]:
        one.apply([(w, g.clone())])
    second = torch.nn.Parameter(w.detach().clone())
    other = optimizer.make(exp, [second], fused=fused)
    held = {k: torch.from_numpy(v.numpy().copy("C")) for k, v in one.state(w).items()}
    other.restore(second, held)
    for g in gradients[2:]:
        one.apply([(w, g.clone())])
        other.apply([(second, g.clone())])
    assert w.stride() == second.stride() and torch.equal(w, second)


def test_a_rate_in_a_tensor_stays_there(experiment: Callable) -> None:
    """A recorded step reads it, and to compare two tensors of a GPU would wait for it."""
    w = torch.nn.Parameter(torch.ones(3))
    made = TorchOptimizer(torch.optim.Adam([w], lr=torch.tensor(0.1), fused=True))
    rate = made.optimizer.param_groups[0]["lr"]
    made.apply([(w, torch.ones(3))])
    made.restore(w, {name: value.clone() for name, value in made.state(w).items()})
    assert made.optimizer.param_groups[0]["lr"] is rate is made.settings[0]["lr"]
    made.rate(0.5)
    made.apply([(w, torch.ones(3))])
    torch.testing.assert_close(w.detach(), torch.full((3,), 0.85))
