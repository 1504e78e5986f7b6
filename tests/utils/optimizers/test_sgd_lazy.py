"""Momentum of the steps that had a gradient, weight by weight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from utils.optimizers import sgd, sgd_lazy

KEYS = {"optimizer": "sgd_lazy", "lr": 0.1, "weight_decay": 0.03}


def by_hand(w: float, gradients: list[float], exp: object) -> float:
    """torch's SGD of one weight (docs of torch.optim.SGD) on those steps alone."""
    m, lr, decay = exp.momentum, exp.lr, exp.weight_decay  # type: ignore[attr-defined]
    b = 0.0
    for g in gradients:
        g += decay * w
        b = m * b + g
        w -= lr * (g + m * b if exp.nesterov else b)  # type: ignore[attr-defined]
    return w


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_a_weight_takes_the_steps_in_which_it_has_a_gradient(
    experiment: Callable, momentum: float, nesterov: bool
) -> None:
    exp = experiment(**KEYS, momentum=momentum, nesterov=nesterov)
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(6, 5, dtype=torch.float64))
    start = w.detach().clone()
    gradients = [torch.randn_like(w) * (torch.rand_like(w) < 0.4) for _ in range(12)]
    optimizer = sgd_lazy.make(exp, [w], fused=False)
    for g in gradients[:5]:
        optimizer.apply([(w, g.clone())])
    second = torch.nn.Parameter(w.detach().clone())
    other = sgd_lazy.make(exp, [second], fused=True)
    other.restore(second, {k: v.clone() for k, v in optimizer.state(w).items()})
    for g in gradients[5:]:
        optimizer.apply([(w, g.clone())])
        other.apply([(second, g.clone())])
    assert torch.equal(w, second)  # it goes on where it was, to the bit
    for i, now in enumerate(w.flatten()):
        own = [float(g.flatten()[i]) for g in gradients if g.flatten()[i] != 0]
        assert now.item() == pytest.approx(by_hand(float(start.flatten()[i]), own, exp), rel=1e-12)


def test_it_is_sgd_where_all_have_gradients_and_rests_where_none_has(experiment: Callable) -> None:
    exp = experiment(**KEYS, momentum=0.9)
    torch.manual_seed(0)
    one, two = (torch.nn.Parameter(torch.ones(7)) for _ in range(2))
    lazy, plain = sgd_lazy.make(exp, [one], fused=False), sgd.make(exp, [two], fused=False)
    for _ in range(5):
        g = torch.randn(7)
        lazy.apply([(one, g.clone())])
        plain.apply([(two, g.clone())])
    torch.testing.assert_close(one, two)
    before = one.detach().clone()
    lazy.apply([(one, torch.zeros(7))])
    plain.apply([(two, torch.zeros(7))])
    assert torch.equal(one, before) and not torch.equal(two, before)
    lazy.restart()
    assert not any(memory.any() for memory in lazy.memory(one))
