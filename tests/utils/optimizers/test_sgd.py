"""The engines' own SGD against torch.optim.SGD."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from utils.optimizers.momentum import SGD

SETTINGS = [
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.01},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.0},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.1},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
]


def gradients(steps: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_rate_in_a_tensor_is_the_same_and_stays_there(
    experiment: Callable, settings: dict
) -> None:
    """Where a recorded step reads it."""
    exp = experiment(lr=0.05, **settings)
    (one, a), (two, b) = ((SGD(exp), torch.ones(3, 4)) for _ in range(2))
    two.settings["lr"] = rate = torch.tensor(0.05)
    for n, gradient in enumerate(gradients(20, (3, 4))):
        for sgd, p in ((one, a), (two, b)):
            sgd.rate(1 / (n + 1))
            sgd.apply([(p, gradient.clone())])
    torch.testing.assert_close(a, b)
    assert two.settings["lr"] is rate and float(rate) == pytest.approx(0.05 / 20)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_same_arithmetic_as_torch(experiment: Callable, settings: dict) -> None:
    ours, theirs = torch.ones(3, 4), nn.Parameter(torch.ones(3, 4))
    sgd = SGD(experiment(lr=0.05, **settings))
    optimizer = torch.optim.SGD([theirs], lr=0.05, foreach=False, fused=False, **settings)
    for gradient in gradients(200, (3, 4)):
        sgd.gradient(ours).copy_(gradient)
        sgd.step()
        theirs.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    if settings["momentum"]:
        momentum = optimizer.state[theirs]["momentum_buffer"]
        torch.testing.assert_close(sgd.momentum(ours), momentum, rtol=1e-5, atol=1e-6)


def test_a_worked_step(experiment: Callable) -> None:
    w = torch.tensor([1.0])
    sgd = SGD(experiment(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.2))
    for expected_momentum, expected in ((1.2, 0.82), (1.764, 0.6154)):
        # g = 1 + 0.2 w; b = 0.5 b + g; w -= 0.1 (g + 0.5 b)
        sgd.gradient(w).fill_(1)
        sgd.step()
        assert sgd.momentum(w).item() == pytest.approx(expected_momentum)
        assert w.item() == pytest.approx(expected)


def test_a_parameter_without_a_gradient_stays_as_it_is(experiment: Callable) -> None:
    one, two = torch.ones(4), torch.ones(4)
    sgd = SGD(experiment(momentum=0.9, weight_decay=0.1))
    sgd.gradient(two).fill_(1)
    sgd.step()
    after_one = two.clone()
    for _ in range(3):
        sgd.gradient(one).fill_(1)
        sgd.step()
    assert torch.equal(two, after_one)
    assert not torch.equal(one, torch.ones(4))


def test_a_parameter_that_begins_later_begins_as_torch_does(experiment: Callable) -> None:
    early, late = torch.ones(2), torch.ones(2)
    twins = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    sgd, optimizer = SGD(experiment(**settings)), torch.optim.SGD(twins, **settings)
    for step, gradient in enumerate(gradients(10, (2,))):
        due = [early] if step < 5 else [late]
        optimizer.zero_grad(set_to_none=True)
        twins[0 if step < 5 else 1].grad = gradient.clone()
        sgd.gradient(due[0]).copy_(gradient)
        sgd.step()
        optimizer.step()
    torch.testing.assert_close(early, twins[0].detach())
    torch.testing.assert_close(late, twins[1].detach())


def test_gradients_are_kept_in_one_place(experiment: Callable) -> None:
    w = torch.ones(2)
    sgd = SGD(experiment())
    first = sgd.gradient(w).fill_(1)
    sgd.step()
    assert sgd.gradient(w) is first
    assert first.tolist() == [1, 1]  # weight decay was not written into it
