"""Learning rates are those of torch's schedulers, in every engine and with every optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torchs

from exps.config import Experiment
from utils.training.record import Length
from utils.training.schedule import share


def by_torch(exp: Experiment, total: int) -> list[float]:
    """The shares of all steps."""
    sgd = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    warmup = min(exp.lr_warmup, total)
    left = total - warmup
    plan: Any = torchs.ConstantLR(sgd, factor=1.0)
    if exp.lr_schedule == "cosine":
        plan = torchs.CosineAnnealingLR(sgd, max(left, 1))
    elif exp.lr_schedule == "step":
        falls = [round(at * left) for at in exp.lr_steps]
        plan = torchs.MultiStepLR(sgd, falls, exp.lr_gamma)
    if exp.lr_warmup > 1:
        for group in sgd.param_groups:
            group["lr"] = group["initial_lr"] = 1.0
        grow = torchs.LinearLR(sgd, 1 / exp.lr_warmup, total_iters=exp.lr_warmup - 1)
        plan = torchs.SequentialLR(sgd, [grow, plan], [warmup])
    elif exp.lr_warmup == 1:
        plan = torchs.SequentialLR(sgd, [torchs.ConstantLR(sgd, factor=1.0), plan], [1])
    found = []
    for _ in range(total):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        plan.step()
    return found


@pytest.mark.filterwarnings("ignore")
@given(
    schedule=st.sampled_from(["constant", "cosine", "step"]),
    warmup=st.integers(0, 12),
    totals=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    steps=st.sets(st.floats(0.05, 0.95), min_size=1, max_size=3),
    gamma=st.floats(0.1, 1),
)
def test_shares_are_those_of_torch(
    schedule: str, warmup: int, totals: list[int], steps: set[float], gamma: float
) -> None:
    keys: dict[str, Any] = {"lr_schedule": schedule, "lr_warmup": warmup, "lr_gamma": gamma}
    exp = Experiment(name="Test", lr_steps=tuple(sorted(steps)), **keys)
    lengths = [Length(1, total) for total in totals]
    for task, total in enumerate(totals):
        found = [share(exp, lengths, task, step) for step in range(total)]
        assert found == pytest.approx(by_torch(exp, total), abs=1e-9)
    whole = Experiment(name="Test", lr_steps=exp.lr_steps, lr_restart="never", **keys)
    found = [share(whole, lengths, t, s) for t, total in enumerate(totals) for s in range(total)]
    assert found == pytest.approx(by_torch(exp, sum(totals)), abs=1e-9)


def test_by_hand() -> None:
    lengths = [Length(2, 8), Length(2, 4)]
    cosine = Experiment(name="Test", lr_schedule="cosine", lr_warmup=2)
    half = [0.5, 1.0, 1.0, 0.933013, 0.75, 0.5, 0.25, 0.066987]
    assert [share(cosine, lengths, 0, s) for s in range(8)] == pytest.approx(half, abs=1e-6)
    assert [share(cosine, lengths, 1, s) for s in range(4)] == pytest.approx([0.5, 1, 1, 0.5])
    step = Experiment(name="Test", lr_schedule="step", lr_steps=(0.5,), lr_restart="never")
    found = [share(step, lengths, task, 3) for task in (0, 1)]
    assert found == pytest.approx([1, 0.1]) and share(step, lengths, 0, 6) == pytest.approx(0.1)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05},
    "adam": {"lr": 0.001},
    "adamw": {"lr": 0.001},
}


@pytest.mark.parametrize("restart", ["task", "never"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_a_run_takes_the_steps_that_torch_would_take(
    experiment: Callable,
    stream_of: Callable,
    trained: Callable,
    built: Callable,
    engine: str,
    optimizer: str,
    restart: str,
) -> None:
    """Written as people write it: an optimiser of torch's with a scheduler, gradients that are
    clipped, and a cross-entropy with smoothing."""
    exp = experiment(
        **{"engine": engine, "optimizer": optimizer, "sparsify": False, "dropout": 0.0},
        **{"lr_schedule": "cosine", "lr_warmup": 2, "lr_restart": restart, "train_ep": 2},
        **{"train_ep_inc": 1, "clip_norm": 0.2, "label_smoothing": 0.2, **OPTIMIZERS[optimizer]},
    )
    stream = stream_of(exp, train=100, test=10)
    record, done = trained(exp, stream)
    other, _, order = built(exp, stream)
    model, loss_of = other.model, torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    more = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    its = kinds[optimizer](model.parameters(), lr=exp.lr, weight_decay=1e-4, **more)
    norms, losses = [], []

    def plan(total: int) -> Any:
        for group in its.param_groups:
            group["lr"] = group["initial_lr"] = exp.lr
        parts = [torchs.LinearLR(its, 0.5, total_iters=1), torchs.CosineAnnealingLR(its, total - 2)]
        return torchs.SequentialLR(its, parts, [2])

    schedule = plan(12)
    for task, epochs in zip(stream.training, (2, 1), strict=True):
        if restart == "task":
            schedule = plan(4 * epochs)
        for _ in range(epochs):
            samples = task.train.take(torch.randperm(100, generator=order))
            for some in samples.split(32):
                x, y = (read(stream.train, some) for read in (stream.inputs, stream.labels))
                loss = loss_of(model(x, task.head), y)
                its.zero_grad()
                loss.backward()
                norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)))
                its.step()
                schedule.step()
                losses.append(loss.item() * len(some))
    assert max(norms) > 0.2 > min(norms) or min(norms) > 0.2
    for p, wanted in zip(done.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, wanted, rtol=2e-3, atol=2e-5)
    wanted = [sum(losses[i : i + 4]) / 100 for i in (0, 4, 8)]
    assert record.stats()["loss"] == pytest.approx(wanted, rel=1e-4)


def test_an_optimiser_without_rate_is_told(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(sparsify=False, lr_warmup=5)
    engine, *_ = built(exp, stream_of(exp))
    engine.optimizer = object()
    with pytest.raises(Exception, match="lr_warmup changes lr from step to step") as caught:
        engine.rate(0.5)
    assert "what to do: set a constant lr" in str(caught.value)
