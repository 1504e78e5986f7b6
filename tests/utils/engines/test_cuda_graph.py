"""Recorded steps: the same as steps taken one by one. On a GPU also with real CUDA graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.stream import Samples
from models import make_model
from utils.engines.batch import Batch
from utils.engines.cuda_graph import WARM_UP, CudaGraphEngine, CudaRecorder
from utils.engines.fused import FusedEngine

CPU = torch.device("cpu")


class Repeat:
    """A recorder that keeps the step itself: all but CUDA's part of recording, on the CPU."""

    def __init__(self) -> None:
        self.recorded = self.replayed = self.warmed = 0

    def warm_up(self, step: Callable[[], None]) -> None:
        self.warmed += 1
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


class Refuse(Repeat):
    """One that cannot record."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


class Restore(Repeat):
    """One whose replays leave gradients where the recording has them, as a graph does."""

    parameters: list[torch.Tensor]

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        replay = super().record(step)
        mine = [torch.zeros_like(p) for p in self.parameters]
        for p, its in zip(self.parameters, mine, strict=True):
            p.grad = its

        def restored() -> None:
            before = [p.grad for p in self.parameters]
            replay()
            for p, its, other in zip(self.parameters, mine, before, strict=True):
                assert p.grad is not None
                its.copy_(p.grad)
                p.grad = other

        return restored


def engines(exp: Any, stream: Any, recorder: Any) -> tuple[FusedEngine, CudaGraphEngine]:
    torch.manual_seed(3)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    return (
        FusedEngine(exp, copy.deepcopy(model), stream, CPU),
        CudaGraphEngine(exp, copy.deepcopy(model), stream, CPU, recorder),
    )


def train(engine: FusedEngine, stream: Any, size: int) -> list[Any]:
    records = []
    for task in stream.training:
        for epoch in range(2):
            order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(epoch))
            shuffled = task.train.take(order)
            torch.manual_seed(epoch)  # dropout
            starts = range(0, len(shuffled), size)
            engine.begin_epoch(len(starts))
            for start in starts:
                engine.step(Batch.of(shuffled.take(slice(start, start + size)), task.head))
            records.append(engine.end_epoch())
    return records


def same(one: FusedEngine, other: FusedEngine) -> bool:
    a, b = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mnist_mode": "split", "num_batch": 2, "weight_sparsity_fc": 0.5},
        {"cumul": True},
    ],
    ids=["permuted", "heads", "cumulative"],
)
def test_replayed_steps_are_the_same_steps(experiment: Any, stream_of: Any, changes: Any) -> None:
    exp = experiment(**changes, boost_strength_factor=0.9)
    stream = stream_of(exp, train=250)  # the last mini-batch is short
    recorder = Repeat()
    plain, replayed = engines(exp, stream, recorder)
    expected, found = (train(e, stream, exp.mb_size) for e in (plain, replayed))
    assert same(plain, replayed)
    for a, b in zip(expected, found, strict=True):
        assert (a.loss, a.accuracy, a.active, a.active_std) == (
            b.loss,
            b.accuracy,
            b.active,
            b.active_std,
        )
        assert (a.unit_on == b.unit_on).all()
    tasks = len(stream.training)
    assert recorder.recorded == tasks  # once a task, not once an epoch
    assert recorder.warmed == WARM_UP * tasks
    whole = sum(2 * (len(t.train) // exp.mb_size) for t in stream.training)
    assert recorder.replayed == whole - recorder.warmed


def test_gradients_are_the_last_steps(experiment: Any, stream_of: Any) -> None:
    """After a short mini-batch too, which is taken as it is between two that are replayed."""
    exp = experiment()
    stream = stream_of(exp, train=10 * exp.mb_size)
    recorder = Restore()
    plain, replayed = engines(exp, stream, recorder)
    recorder.parameters = replayed.parameters
    task, start = stream.training[0], 0
    for engine in (plain, replayed):
        engine.begin_epoch(10)
    for size in (*[exp.mb_size] * 6, 5, exp.mb_size, exp.mb_size):
        batch = Batch.of(task.train.take(slice(start, start + size)), task.head)
        for engine in (plain, replayed):
            torch.manual_seed(start)
            engine.step(batch)
        start += size
        for p, q in zip(plain.parameters, replayed.parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=0)
    assert recorder.replayed == 5


def test_what_cannot_be_recorded_is_taken_as_it_is(experiment: Any, stream_of: Any) -> None:
    exp = experiment()
    stream = stream_of(exp)
    plain, replayed = engines(exp, stream, Refuse())
    train(plain, stream, exp.mb_size)
    with pytest.warns(UserWarning, match="launched one by one: operation not permitted"):
        train(replayed, stream, exp.mb_size)
    assert same(plain, replayed)


def test_a_longer_epoch_is_recorded_anew(experiment: Any, stream_of: Any) -> None:
    exp = experiment()
    stream = stream_of(exp)
    recorder = Repeat()
    _, engine = engines(exp, stream, recorder)
    batch = stream.training[0].train.take(slice(0, exp.mb_size))
    for steps in (5, 5, 9):
        engine.begin_epoch(steps)
        for _ in range(steps):
            engine.step(Batch.of(Samples(batch.rows, batch.view), 0))
        assert len(engine.end_epoch().unit_on) == exp.hidden_units
    assert recorder.recorded == 2


def test_a_task_is_recorded_anew_though_its_pictures_are_like_those_before(
    experiment: Any, stream_of: Any
) -> None:
    """A method's loss may be another: of other pictures, or none."""
    exp = experiment()
    stream = stream_of(exp)
    recorder = Repeat()
    _, engine = engines(exp, stream, recorder)
    rows = stream.training[0].train.rows[: exp.mb_size]
    for task in (0, 1):
        engine.begin_task()
        engine.begin_epoch(6)
        for _ in range(6):
            mixed = Samples(rows, torch.full_like(rows, task))  # a view for each picture
            engine.step(Batch.of(mixed, 0), [lambda *_, task=task: torch.tensor(float(task))])
        assert engine.end_epoch().loss > task
    assert recorder.recorded == 2 and recorder.warmed == 2 * WARM_UP


@pytest.mark.gpu
def test_cuda_graphs_give_what_launched_steps_give(experiment: Any, stream_of: Any) -> None:
    device = torch.device("cuda")
    exp = experiment(dropout=0.0)
    stream = stream_of(exp).to(device)
    torch.manual_seed(3)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    plain = FusedEngine(exp, copy.deepcopy(model), stream, device)
    recorder = CudaRecorder(device)
    replayed = CudaGraphEngine(exp, copy.deepcopy(model), stream, device, recorder)
    for engine in (plain, replayed):
        engine.begin_epoch(20)
        for i in range(20):
            some = torch.arange(8 * i, 8 * i + exp.mb_size, device=device) % 256
            engine.step(Batch.of(stream.training[0].train.take(some), 0))
    assert replayed.records
    assert plain.end_epoch().loss == pytest.approx(replayed.end_epoch().loss, rel=1e-4)
