"""Gradient checkpointing: repeated passes have the winners of the first, and are counted once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.dropout import Dropout
from sparse_syn import KWinners, KWinners2d, SparseWeights, SparseWeights2d

Loss = Callable[[nn.Module, Callable[..., Any]], Tensor]


def network(boost: float = 5.0) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        SparseWeights(nn.Linear(20, 50), weight_sparsity=0.4),
        KWinners(50, 0.2, boost_strength=boost),
        Dropout(0.3),
        nn.Linear(50, 20),
    )
    for i in range(5):
        net(inputs(10 + i))
    return net


def inputs(seed: int, batch: int = 32) -> Tensor:
    x = torch.randn(batch, 20, generator=torch.Generator().manual_seed(seed))
    return x.requires_grad_()


def plain(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def reentrant(function: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=True)


def by_hooks(function: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False)


def nested(
    outer: Callable[..., Any], inner: Callable[..., Any]
) -> Callable[[Callable[..., Any], Any], Any]:
    return lambda function, *args: outer(lambda *a: inner(function, *a), *args)


WAYS = {
    "reentrant": reentrant,
    "hooks": by_hooks,
    "reentrant in reentrant": nested(reentrant, reentrant),
    "hooks in hooks": nested(by_hooks, by_hooks),
    "reentrant in hooks": nested(by_hooks, reentrant),
    "hooks in reentrant": nested(reentrant, by_hooks),
    "thrice": nested(by_hooks, nested(by_hooks, by_hooks)),
}


def once(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    return call(net, inputs(1)).square().sum()


def accumulated(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    return sum(((i + 1) * call(net, inputs(i)).square().sum() for i in range(3)), torch.zeros(()))


def same_input(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    x = inputs(1)
    return sum(((i + 1) * call(net, x).square().sum() for i in range(3)), torch.zeros(()))


def twins(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    return call(lambda a, b: net(a) * net(b), inputs(1), inputs(2)).sum()


def same_twins(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    return call(lambda a: net(a) - 2 * net(a), inputs(1)).square().sum()


def stacked(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    return call(net, call(net, call(net, inputs(1)))).square().sum()


def unused_too(net: nn.Module, call: Callable[..., Any]) -> Tensor:
    x = inputs(1)
    first, _ = call(net, x).square().sum(), call(net, x)
    with torch.no_grad():
        net(x)
    return first


LOSSES = (once, accumulated, same_input, twins, same_twins, stacked, unused_too)


def outcome(loss: Loss, call: Callable[..., Any]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradients, and what the network holds afterwards."""
    net = network()
    torch.manual_seed(1)
    loss(net, call).backward()
    return [p.grad for p in net.parameters() if p.grad is not None], net.state_dict()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_and_counts_are_those_without(way: str, loss: Loss) -> None:
    (expected, learned), (found, state) = outcome(loss, plain), outcome(loss, WAYS[way])
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert all(torch.equal(state[key], value) for key, value in learned.items())


@pytest.mark.parametrize("way", [reentrant, by_hooks])
def test_convolutions_under_autocast(way: Callable[..., Any]) -> None:
    def outcome(call: Callable[..., Any]) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(
            SparseWeights2d(nn.Conv2d(2, 8, 3), 0.5), KWinners2d(8, 0.25, boost_strength=4.0)
        )
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(3):
                y = call(net, torch.randn(4, 2, 6, 6, requires_grad=True))
            loss = y.float().square().sum() + net[0].weight.abs().sum()
        loss.backward()
        assert net[0].weight.grad is not None
        return net[0].weight.grad, net[1].duty_cycle

    for one, other in zip(outcome(way), outcome(plain), strict=True):
        torch.testing.assert_close(one, other)


def test_backward_twice_and_in_any_order() -> None:
    def outcome(call: Callable[..., Any]) -> tuple[list[Tensor], Tensor]:
        net = network()
        x = inputs(1)
        losses = [call(net[:2], x).square().sum() for _ in range(3)]
        found = []
        for i in (1, 0, 2, 1):
            losses[i].backward(retain_graph=True)
            found.append(net[0].weight.grad.clone())
        return found, net[1].duty_cycle

    (found, duty), (expected, learned) = outcome(by_hooks), outcome(plain)
    torch.testing.assert_close(found, expected)
    assert torch.equal(duty, learned)


def test_a_boost_that_decays_before_the_backward_pass() -> None:
    def outcome(call: Callable[..., Any]) -> Tensor:
        net = network()
        loss = call(net[:2], inputs(1)).square().sum()
        net[1].update_boost_strength()
        loss.backward()
        return net[0].weight.grad

    torch.testing.assert_close(outcome(reentrant), outcome(plain))


def test_a_pass_that_does_not_repeat_is_an_error() -> None:
    net = nn.Sequential(Dropout(0.5), KWinners(20, 0.2))
    y = checkpoint(net, inputs(1), use_reentrant=True, preserve_rng_state=False)
    with pytest.raises(RuntimeError, match="none is known with this input"):
        y.sum().backward()
    assert net[1].learning_iterations == 32
    y = checkpoint(net.eval(), inputs(1), use_reentrant=True)
    net.train()
    with pytest.raises(RuntimeError, match="in training mode both times"):
        y.sum().backward()


def test_a_compiled_layer_refuses_to_repeat() -> None:
    layer = KWinners(20, 0.2)
    compiled = torch.compile(layer, backend="eager")
    y = checkpoint(compiled, inputs(1) * 1, use_reentrant=False)
    with pytest.raises(RuntimeError, match="compiled k-winner layer cannot repeat"):
        y.square().sum().backward()
    assert layer.learning_iterations == 32


def test_ordinary_training_remembers_nothing_and_others_little() -> None:
    layer = KWinners(2**18, 0.1)
    layer(torch.randn(1, layer.n, requires_grad=True)).sum().backward()
    assert not layer.passes.known
    for _ in range(20):
        with torch.no_grad():
            layer(torch.randn(1, layer.n))
    assert len(layer.passes.known) == 16
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not other.passes.known
