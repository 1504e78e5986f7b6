"""Compiled layers compute what the layers do that they are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("numba", reason="compiled layers need numba")

from models import make_model
from models.blocks import Block
from sparse_syn.k_winners import KWinners2d
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.engines.compiled import layers
from utils.engines.compiled.layers import Loops, SparseLinear, with_loops
from utils.engines.fused import FusedEngine
from utils.optimizers.momentum import SGD

FORMS = [(torch.float32, 0.0), (torch.bfloat16, 2e-2)]


def block(channels: int, *, winners: bool = True, dropout: float = 0.5, **keys: Any) -> Block:
    """A block with a 1 x 1 convolution that changes nothing, in training mode."""
    convolution = nn.Conv2d(channels, channels, 1)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(channels)[..., None, None])
        convolution.bias.zero_()
    keys = {"local": True, "boost_strength": 1.0} | keys
    activation: nn.Module = nn.ReLU()
    if winners:
        activation = nn.Sequential(nn.ReLU(), KWinners2d(channels, **keys))
    return Block(convolution, activation, dropout)


def both(plain: Block) -> tuple[Block, Block]:
    """The block, and one like it with the compiled layer."""
    fast = copy.deepcopy(plain)
    with_loops(nn.Sequential(fast), [])
    assert isinstance(fast.activation, Loops)
    return plain, fast


def passed(block: Block, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What comes out of a block's activation and dropout for x, and the gradient of x."""
    torch.manual_seed(seed)
    x = x.detach().requires_grad_()
    y = block.dropout(block.activation(x))
    (y.float() * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("percent_on", [0.05, 0.3, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(5, 20, 7, 9), (1, 33, 1, 1), (17, 24, 36, 31)])
def test_the_same_numbers_to_the_bit(
    shape: tuple[int, ...], percent_on: float, dtype: torch.dtype
) -> None:
    """With the same random numbers, and duty cycles that change; values that do not tie."""
    plain, fast = both(block(shape[1], percent_on=percent_on, duty_cycle_period=20))
    for step in range(3):
        x = torch.rand(shape).argsort(1) - shape[1] // 3  # of no two channels the same
        x = (x * 0.7 if dtype == torch.float32 else x).to(dtype)
        for training in (True, False):
            plain.train(training)
            fast.train(training)
            for one, other in zip(passed(plain, x, step), passed(fast, x, step), strict=True):
                assert torch.equal(one, other)
    for name, buffer in plain.named_buffers():
        found = dict(fast.named_buffers())[name.replace("activation", "activation.activation")]
        assert torch.equal(buffer, found), name


def test_without_winners() -> None:
    for dropout in (0.0, 0.25):
        one, other = both(block(6, winners=False, dropout=dropout))
        x = torch.randn(3, 6, 5, 5)
        for a, b in zip(passed(one, x, 1), passed(other, x, 1), strict=True):
            assert torch.equal(a, b)


def test_other_precisions_are_left_to_the_layers() -> None:
    plain, fast = both(block(6, percent_on=0.5, dropout=0.0))
    x = torch.randn(3, 6, 5, 5, dtype=torch.float64)
    for a, b in zip(passed(plain, x, 1), passed(fast, x, 1), strict=True):
        assert a.dtype == torch.float64
        assert torch.equal(a, b)


@pytest.mark.parametrize("k", [1, 7, 19])
def test_values_that_tie(k: int) -> None:
    """In float32 all of them win, in bfloat16 exactly k."""
    x = torch.randint(-3, 4, (9, 20, 6, 6)).float()
    for dtype, exact in ((torch.float32, False), (torch.bfloat16, True)):
        plain, fast = both(block(20, percent_on=k / 20, dropout=0.0, boost_strength=0.0))
        ours, theirs = (passed(b, x.to(dtype), 0)[0] for b in (fast, plain))
        won = (ours > 0).sum(1)
        assert torch.equal(won, (x > 0).sum(1).clamp(max=k) if exact else (theirs > 0).sum(1))
        assert torch.equal(ours.sum(1), theirs.sum(1))  # the same values, of whichever channel


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_passes(dtype: torch.dtype) -> None:
    _, fast = both(block(8, percent_on=0.25, dropout=0.0))
    x = torch.rand(2, 8, 3, 3).to(dtype)
    x[0, 5, 1, 1] = float("nan")
    y, slope = passed(fast, x, 0)
    assert y[0, 5, 1, 1].isnan() and y.isnan().sum() == 1
    assert slope[0, 5, 1, 1] != 0


def test_a_repeated_pass_counts_once() -> None:
    """Gradient checkpointing computes the layer again, with the winners of the first time."""
    x = torch.randn(4, 10, 5, 5)
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        layer = both(block(10, percent_on=0.3, dropout=0.0, duty_cycle_period=2))[1].activation
        some = x.clone().requires_grad_()
        for _ in range(2):
            if checkpointed:
                y = torch.utils.checkpoint.checkpoint(layer, some, use_reentrant=False)
            else:
                y = layer(some)
            y.square().sum().backward()
        found.append((some.grad, layer.winners.duty_cycle, layer.winners.learning_iterations))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("dtype", "atol"), FORMS)
@pytest.mark.parametrize(
    ("samples", "inputs", "outputs", "density"),
    [(1, 7, 3, 0.5), (128, 1024, 30, 0.1), (100, 1500, 65, 0.2), (300, 2049, 17, 0.02)],
)
def test_sparse_products(
    samples: int, inputs: int, outputs: int, density: float, dtype: torch.dtype, atol: float
) -> None:
    mask = torch.rand(outputs, inputs) > density
    plain = nn.Linear(inputs, outputs)
    with torch.no_grad():
        plain.weight.masked_fill_(mask, 0)
    fast = SparseLinear(copy.deepcopy(plain), mask)
    x = torch.randn(samples, inputs).to(dtype)
    grow = torch.randn(samples, outputs)
    for _ in range(2):
        found = []
        for layer, kind in ((plain, torch.float32), (fast, dtype)):
            some = x.detach().to(kind).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == torch.bfloat16):
                y = layer(some)
            assert y.dtype == kind
            layer.zero_grad()
            (y.float() * grow.to(dtype).float()).sum().backward()
            inner = getattr(layer, "layer", layer)
            found.append((y.float(), some.grad.float(), inner.weight.grad, inner.bias.grad))
        masked = found[0][2].masked_fill(mask, 0)
        for a, b in zip(found[1], (*found[0][:2], masked, found[0][3]), strict=True):
            scale = float(b.detach().abs().max())
            torch.testing.assert_close(a, b, rtol=0, atol=(atol + 2e-6) * scale)
        assert not found[1][2][mask].any()
        with torch.no_grad():  # another mask in the same place
            mask.copy_(mask.roll(1, 1))
            for layer in (plain, fast.layer):
                layer.weight.masked_fill_(mask, 0).add_((~mask).float())


def test_numbers_do_not_depend_on_threads() -> None:
    mask = torch.rand(40, 3000) > 0.1
    layer = nn.Linear(3000, 40)
    fast, x, found = SparseLinear(layer, mask), torch.randn(130, 3000, requires_grad=True), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = fast(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), [x, layer.weight])))
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


def test_where_it_takes_a_layers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "LARGE", 100)
    sparse, dense = nn.Linear(40, 10), nn.Linear(40, 10)
    net = nn.Sequential(sparse, dense)
    masked = [(sparse.weight, torch.rand(10, 40) > 0.1), (dense.weight, torch.rand(10, 40) > 0.8)]
    left = with_loops(net, masked)
    assert isinstance(net[0], SparseLinear) and net[1] is dense
    assert [weight is dense.weight for weight, _ in left] == [True]
    watched = block(4, percent_on=0.5)
    watched.activation.register_forward_hook(lambda *_: None)
    with_loops(nn.Sequential(watched), [])
    assert isinstance(watched.activation, nn.Sequential)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_sparse_layer_takes_the_step_of_sgd_itself(
    monkeypatch: pytest.MonkeyPatch,
    experiment: Callable,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """The weights after some steps, also when they are written to in between."""
    monkeypatch.setattr(layers, "LARGE", 0)
    nesterov = nesterov and momentum > 0
    exp = experiment(lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    torch.manual_seed(0)
    one = nn.Linear(50, 20)
    mask = torch.rand(20, 50) > 0.15
    one.weight.data.masked_fill_(mask, 0)
    other, found = copy.deepcopy(one), []
    for layer, compact in ((one, False), (other, True)):
        sgd, net = SGD(exp), nn.Sequential(layer)
        with_loops(net, [(layer.weight, mask)])
        (sparse,) = net
        assert isinstance(sparse, SparseLinear)
        sparse.compact = compact
        for step in range(5):
            x = torch.randn(6, 50, generator=torch.Generator().manual_seed(step))
            layer.zero_grad()
            (net(x) ** 2).mean().backward()
            assert (layer.weight.grad is None) == compact
            sgd.apply([(p, p.grad) for p in layer.parameters() if p.grad is not None])
            if compact:
                sparse.descend(sgd.momentum(layer.weight) if momentum else None, sgd.settings)
            if step == 2:
                sparse.write_back()
                with torch.no_grad():
                    layer.weight.mul_(0.5)
        sparse.write_back()
        memory = sgd.momenta.get(layer.weight, torch.zeros(()))
        found.append((layer.weight.detach(), layer.bias.detach(), memory, net(x).detach()))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second)
    assert not found[1][0][mask].any()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_engine_with_a_sparse_layer_is_the_reference_and_goes_on_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, experiment: Callable, stream_of: Callable, momentum: float
) -> None:
    monkeypatch.setattr(layers, "LARGE", 0)
    keys = {"cnn": True, "weight_sparsity_fc": 0.1}
    more = {"momentum": momentum, "nesterov": momentum > 0, "hidden_units": 16, "dropout": 0.0}
    exp = experiment(**keys, **more, percent_on_conv=0.5, engine="dense").in_effect
    stream = stream_of(exp, train=160, test=20)
    task, engines = stream.training[0], []
    for kind in ("reference", "dense", "dense", "dense"):
        torch.manual_seed(0)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        engines.append(make_engine(replace(exp, engine=kind), model, stream, torch.device("cpu")))
        engines[-1].begin_epoch(5)
    reference, whole, begun, gone_on = engines
    assert isinstance(whole, FusedEngine) and len(whole.sparse) == 1
    for step, some in enumerate(task.train.split(32)):
        if step == 2:
            gone_on.load_state_dict(copy.deepcopy(begun.state_dict()))
        for engine in (reference, whole, begun if step < 2 else gone_on):
            engine.step(Batch.of(some, task.head))
    states = [engine.state_dict() for engine in (reference, whole, gone_on)]
    for part in ("model", "momentum"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(value, states[1][part][name], rtol=1e-3, atol=1e-4)
            assert states[1][part][name].equal(states[2][part][name]), name
    logits = [e.logits(stream.tasks[0].test, task.head)[0] for e in (reference, whole, gone_on)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-4)
    assert logits[1].equal(logits[2])
