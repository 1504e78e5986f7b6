"""Synaptic intelligence and memory-aware synapses, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from exps.config import ConfigError, from_texts
from utils.engines.batch import Batch
from utils.methods.path_integral import PathIntegral
from utils.methods.per_picture import sums
from utils.training import state


def test_the_path_integral_of_a_quadratic_is_what_the_loss_has_lost() -> None:
    """With small steps ω = Σ -g·Δθ is the fall of each parameter's own share of the loss."""
    curve, goal = torch.tensor([1.0, 3.0, 0.5]), torch.tensor([1.0, -2.0, 0.0])
    theta = nn.Parameter(torch.tensor([0.0, 1.0, 4.0]))

    def share() -> torch.Tensor:
        return curve / 2 * (theta.detach() - goal) ** 2

    path, before = PathIntegral([theta]), share()
    for _ in range(4000):
        theta.grad = curve * (theta.detach() - goal)
        with torch.no_grad():
            theta -= 1e-3 * theta.grad
        path.add()
    torch.testing.assert_close(path.total[0], before - share(), rtol=2e-3, atol=1e-4)
    way = (theta.detach() - torch.tensor([0.0, 1.0, 4.0])) ** 2
    right = path.total[0] / (way + 0.25)
    torch.testing.assert_close(path.importance(0.25)[theta], right)


def test_si_pulls_to_the_last_values_by_all_importances(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(sparsify=False, methods=("si",), si_strength=0.7, si_damping=0.01)
    stream = stream_of(exp)
    engine, [method], _ = built(exp, stream)
    parameters = list(engine.model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for task in (0, 1):
        method.begin_task(engine, task)
        engine.begin_epoch(3)
        start = [p.detach().clone() for p in parameters]
        ways = [torch.zeros_like(p) for p in parameters]
        for step in range(3):
            before = [p.detach().clone() for p in parameters]
            some = stream.tasks[task].train.take(slice(32 * step, 32 * step + 32))
            logits = engine.step(Batch.of(some, 0))
            method.after_step(engine, Batch.of(some, 0), logits)
            for way, p, b in zip(ways, parameters, before, strict=True):
                way -= p.grad * (p.detach() - b)
        for sum_, way, p, s in zip(total, ways, parameters, start, strict=True):
            sum_ += way.clamp(min=0) / ((p.detach() - s) ** 2 + 0.01)
        method.end_task(engine, task)
        ends = [p.detach().clone() for p in parameters]
    method.begin_task(engine, 2)
    for p, omega, end in zip(parameters, total, ends, strict=True):
        spring = engine.springs["si"][p]
        torch.testing.assert_close(spring.strength, 1.4 * omega, rtol=1e-4, atol=1e-7)
        assert torch.equal(spring.anchor, end)


@pytest.mark.parametrize(
    "keys",
    [{"sparsify": False}, {"weight_sparsity_fc": 0.5}, {"cnn": True, "hidden_units": 8}],
    ids=["dense", "sparse", "cnn"],
)
def test_mas_is_the_mean_size_of_the_gradient_of_the_squared_outputs(
    experiment: Callable, stream_of: Callable, built: Callable, keys: dict[str, Any]
) -> None:
    if keys.get("cnn"):
        keys = {**keys, "percent_on_conv": 0.1}
    exp = experiment(**keys, methods=("mas",))
    stream = stream_of(exp, train=6)
    engine, [method], _ = built(exp, stream)
    model = engine.model.eval()
    x = stream.inputs(stream.train, stream.tasks[0].train)
    right = {p: torch.zeros_like(p) for p in model.parameters()}
    for i in range(len(x)):
        found = torch.autograd.grad(model(x[i : i + 1]).square().sum(), list(right))
        for p, gradient in zip(right, found, strict=True):
            right[p] += gradient.abs() / len(x)
    method.end_task(engine, 0)
    strength, anchor = method.held(engine.model)
    masks = {m.module.weight: m.zero_mask for m in model.modules() if hasattr(m, "zero_mask")}
    for p, mine in strength.items():
        mine = mine.masked_fill(masks[p], 0) if p in masks else mine
        torch.testing.assert_close(mine, right[p], rtol=1e-3, atol=1e-6)
        assert torch.equal(anchor[p], p)


def test_sums_are_of_the_functions_that_are_asked_for() -> None:
    """Σ |δᵢ·aⱼ| of a linear layer, two functions, by hand."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(2, 2, bias=False)

        def forward(self, x: torch.Tensor, head: int) -> torch.Tensor:
            return self.map(x)

    model, x = Linear(), torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    towards = [torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, -4.0]])]
    found = [g for _, g in sums(model, x, 0, lambda _: towards, squared=False)]
    assert sum(found).tolist() == [[1 + 3, 2 + 0.5], [6 + 1 + 12, 1 + 2 + 2]]


@pytest.mark.parametrize("method", ["si", "mas", "ewc"])
def test_the_sparse_engine_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} pulls every weight.*choose engine = auto"):
        from_texts("Test", {"methods": method, "engine": "sparse"})


HELD = {
    "si": {"si_strength": 0.5},
    "mas": {"mas_strength": 0.1},
    "ewc": {"ewc_strength": 20.0},
}


@pytest.mark.parametrize("method", HELD)
def test_updates_at_the_ends_of_tasks_are_those_of_tasks(
    experiment: Callable, stream_of: Callable, trained: Callable, method: str
) -> None:
    """A task of 4 steps, and an update every 4: the same network, up to the order of sums."""
    keys: dict[str, Any] = {"num_batch": 3, "train_ep": 1, "train_ep_inc": 1, "sparsify": False}
    keys |= {"methods": (method,), **HELD[method]}
    found = []
    for every in (0, 4):
        exp = experiment(**keys, update_every=every)
        found.append(trained(exp, stream_of(exp, train=128))[1].model.state_dict())
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("stream", ["tasks", "blurry", "random"])
@pytest.mark.parametrize("method", HELD)
def test_updates_know_no_tasks_and_go_on_to_the_bit(
    experiment: Callable, stream_of: Callable, run_to: Callable, method: str, stream: str
) -> None:
    """7 steps a task of two epochs, and an update every 3: the fifth is of steps of both tasks."""
    keys: dict[str, Any] = {"train_ep": 2, "train_ep_inc": 2, "stream": stream, "blur": 0.5}
    exp = experiment(**keys, methods=(method,), **HELD[method], update_every=3)
    some = stream_of(exp, train=200)
    _, whole, [ended], _ = run_to(exp, some)
    assert (ended.updates, ended.steps) == (9, 1)
    for stop in (1, 2, 3, 9):
        _, _, _, tree = run_to(exp, some, stop)
        _, engine, [method_], _ = run_to(exp, some, tree=tree)
        assert (method_.updates, method_.steps) == (9, 1)
        for (name, one), other in zip(
            whole.model.state_dict().items(), engine.model.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), f"{name} after {stop} steps"


def test_an_update_is_of_the_pictures_of_its_steps(
    experiment: Callable, stream_of: Callable, staged: Callable
) -> None:
    exp = experiment(methods=("ewc",), update_every=3, stream="blurry", blur=0.5, sparsify=False)
    stream = stream_of(exp, train=128)
    run = staged(exp, stream)
    [method], seen = run.methods, []
    method.consolidate = lambda engine, trained, number: seen.append((trained.samples, number))
    for task in (0, 1):
        run.train(task, 32)
    first, second = (task.train for task in stream.training)
    rows, views = (
        torch.cat([getattr(task, name) for task in (first, second)]) for name in ("rows", "view")
    )
    for number, (samples, as_number) in enumerate(seen):
        its = slice(96 * number, 96 * (number + 1))
        assert as_number == number
        assert torch.equal(samples.rows, rows[its])
        assert torch.equal(samples.view, views[its])
    assert len(seen) == 2


@pytest.mark.parametrize("method", HELD)
@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"scenario": "task", "mnist_mode": "split", "num_batch": "5"}, "which task it is of"),
        ({"context": "prototype", "sparsify": "true"}, "a task trains units of its own"),
    ],
    ids=["heads", "contexts"],
)
def test_updates_without_boundaries_are_refused_where_tasks_are_told(
    method: str, keys: dict[str, str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        from_texts("Test", {"methods": method, "update_every": "10", **keys})


@pytest.mark.parametrize("method", HELD)
def test_with_patience_nothing_pulls_before_anything_is_held(
    experiment: Callable, stream_of: Callable, staged: Callable, method: str
) -> None:
    """The network goes back to its best epoch, which may be from before the first update."""
    exp = experiment(methods=(method,), update_every=2, sparsify=False, **HELD[method])
    stream = stream_of(exp, train=128)
    run = staged(exp, stream)
    run.begin(0)
    run.engine.begin_epoch(4)
    run.step(stream.training[0].train.take(slice(32)))
    best = state.take(run.engine, run.methods)
    for at in (32, 64, 96):
        run.step(stream.training[0].train.take(slice(at, at + 32)))
    assert run.engine.springs[method]
    state.put_back(best, run.engine, run.methods, resume=True)
    assert not run.engine.springs[method]
    assert (run.methods[0].steps, run.methods[0].updates) == (1, 0)


def test_what_is_kept_for_an_update_counts(
    experiment: Callable, stream_of: Callable, staged: Callable
) -> None:
    """Importance by path needs no pictures; that by gradients of pictures does."""
    for method, kept in (("si", 0), ("ewc", 64), ("mas", 64)):
        exp = experiment(methods=(method,), update_every=3, sparsify=False)
        stream = stream_of(exp, train=64)
        run = staged(exp, stream)
        run.train(0, 32)
        costs = run.methods[0].costs(run.engine)
        assert (costs.pictures, costs.memory) == (kept, 16 * kept)
        assert ("rows" in run.methods[0].state()) == (kept > 0)


@pytest.mark.parametrize("method", HELD)
def test_an_update_in_every_step_holds_nothing_and_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match="choose 2 or more"):
        from_texts("Test", {"methods": method, "update_every": "1"})
