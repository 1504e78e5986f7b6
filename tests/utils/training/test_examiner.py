"""Tests while a task is trained come at the right step, change nothing, and go on to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from tests.utils.test_pairs import METHODS, bits, refusal
from utils.engines.base import Ahead
from utils.engines.fused import FusedEngine
from utils.live.progress import Progress
from utils.runs import checkpoint
from utils.runs.past import past
from utils.training.evaluation import some_of
from utils.training.listener import EpochDone, TaskTested, WithinTested
from utils.training.loop import run_stream
from utils.training.record import Length, Place, RunRecord, empty_curve, empty_record

CURVE = ("curve_tasks", "curve_steps", "curve_accs")


class Enough(Exception):
    """The run has come to where it is to be stopped."""


class Heard:
    """Notes all that it is told of tests within tasks."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, int, int]] = []

    def epoch(self, task: int, epoch: int, done: Any) -> None:
        pass

    def tested(self, task: int, epoch: int, accs: np.ndarray) -> None:
        pass

    def within(self, task: int, epoch: int, step: int, steps: int, row: np.ndarray) -> None:
        self.found.append((task, epoch, step, steps))


def run(
    built: Callable,
    exp: Experiment,
    stream: TaskStream,
    stop: Callable[[RunRecord], bool] = lambda record: False,
    tree: Any = None,
) -> tuple[RunRecord, Any, Any, Heard]:
    """A run, from a checkpoint or to where one is to be stopped."""
    engine, methods, order = built(exp, stream)
    record, heard = empty_record(exp, stream, engine.model), Heard()
    place = Place() if tree is None else checkpoint.put_back(tree, engine, methods, record)

    def keep(_: bool) -> None:
        if stop(record):
            raise Enough

    parts = exp, stream, engine, methods, order, record
    try:
        with Progress(len(stream.training), quiet=True) as progress:
            run_stream(*parts, progress, place, keep, heard)
    except Enough:
        return record, place, checkpoint.take(engine, methods, record, place), heard
    state = {method.name: method.state() for method in methods}
    return record, {"model": engine.model.state_dict(), "methods": state}, None, heard


def without_curve(record: RunRecord) -> dict[str, Any]:
    return {name: value for name, value in record.stats().items() if name not in CURVE}


def in_the_middle(record: RunRecord) -> bool:
    """Within the second task, one task of a test is done and another has been begun."""
    curve, row = record.curve, record.curve.accs[record.curve.done :][:1]
    return bool((curve.tasks[curve.done :][:1] == 1).any() and np.isfinite(row).sum() == 1)


@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_they_change_no_number_and_go_on_to_the_bit_from_their_middle(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str, methods: str
) -> None:
    if refusal(engine, methods, "sgd"):
        pytest.skip("the engine has not what the method needs")
    keys = {"train_ep": 2, "train_ep_inc": 2, **METHODS[methods], "hidden_units": 32}
    exp = experiment(**keys, engine=engine, dropout=0.3)
    stream = stream_of(exp, train=288 if methods == "rigl" else 96, test=20)
    plain, expected, _, _ = run(built, exp, stream)
    every = experiment(**keys, engine=engine, dropout=0.3, eval_every=2, eval_pictures=15)
    record, _, tree, _ = run(built, every, stream, in_the_middle)
    assert tree["place"]["phase"] == "training", "it was in the middle of a test within the task"
    torch.manual_seed(1234)  # another process would have drawn other numbers
    resumed, found, _, _ = run(built, every, stream, tree=tree)
    assert bits(found) == bits(expected)
    assert bits(without_curve(resumed)) == bits(without_curve(plain))
    whole, _, _, _ = run(built, every, stream)
    assert bits(resumed.curve.stats()) == bits(whole.curve.stats())
    assert not np.isnan(resumed.curve.accs).any()
    assert (record.curve.accs[: record.curve.done] == whole.curve.accs[: record.curve.done]).all()


@pytest.mark.parametrize("every", [1, 3, 5, 8, 11, 40, 1000])
@pytest.mark.parametrize("sparsify", [True, False])
def test_engines_that_take_many_steps_stop_at_the_right_one(
    experiment: Callable, stream_of: Callable, built: Callable, sparsify: bool, every: int
) -> None:
    keys: dict[str, Any] = {"engine": "stacked", "hidden_units": 256, "percent_on_fc": 0.03}
    keys |= {"sparsify": sparsify, "train_ep": 2, "train_ep_inc": 1, "mb_size": 4, "dropout": 0.3}
    stream = stream_of(experiment(**keys), train=160, test=30)
    engine, _, _ = built(experiment(**keys), stream)
    assert isinstance(engine, Ahead) and 1 < engine.at_once < 40
    plain, expected, _, _ = run(built, experiment(**keys), stream)
    asked: list[int] = []
    take, look = type(engine).take_steps, type(engine).logits

    def taken(self: Any, samples: Samples, *more: Any) -> None:
        asked.append(-(-len(samples) // 4))
        take(self, samples, *more)

    def looked(self: Any, *more: Any, **options: Any) -> Any:
        asked.append(0)
        return look(self, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine), "take_steps", taken)
        patch.setattr(type(engine), "logits", looked)
        found, state, _, heard = run(built, experiment(**keys, eval_every=every), stream)
    done = np.cumsum(asked)
    stops = {int(done[i]) for i in range(len(asked)) if not asked[i]}
    within = {*range(every, 80, every)} | {80 + n for n in range(every, 40, every)}
    assert stops == {0, 80, 120} | within
    assert {steps for _, _, _, steps in heard.found} == within
    assert bits(state) == bits(expected)
    assert bits(without_curve(found)) == bits(without_curve(plain))


@pytest.mark.parametrize("keys", [{}, {"model": "cnn", "hidden_units": 8}, {"sparsify": False}])
@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_evaluation_mode_ends_with_the_test(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str, keys: Any
) -> None:
    """So a step after a test is a step of training, whoever tested."""
    exp = experiment(engine=engine, **keys)
    stream = stream_of(exp)
    made, _, _ = built(exp, stream)
    made.begin_epoch(1)
    before = [module.training for module in made.net.modules()]
    made.logits(stream.tasks[0].test, 0)
    made.features(stream.tasks[0].train, training=True)
    with pytest.raises(IndexError):
        made.logits(stream.tasks[0].test, 7)
    assert all(before) and before == [module.training for module in made.net.modules()]
    assert isinstance(made, FusedEngine) == (engine == "dense")


@given(
    every=st.integers(1, 50),
    totals=st.lists(st.integers(0, 60), min_size=1, max_size=5),
)
def test_which_tests_there_are(every: int, totals: list[int]) -> None:
    curve = empty_curve(every, [Length(7, total) for total in totals], 3)
    found = iter(zip(curve.tasks, curve.at, curve.steps, strict=True))
    steps = 0
    for task, total in enumerate(totals):
        for step in range(1, total + 1):
            ahead = curve.ahead(task, step - 1)
            assert ahead == min(every - (step - 1) % every, total - step + 1)
            row = curve.due(task, step)
            assert (row is not None) == (step % every == 0 and step < total)
            if row is not None:
                assert next(found) == (task, step, steps + step)
                curve.done += 1
        steps += total
        assert next(found) == (task, total, steps)
        curve.end_task(np.full(3, task / 10))
    assert next(found, None) is None
    assert curve.done == len(curve.accs)
    ends = np.flatnonzero(curve.at == np.array(totals)[curve.tasks])
    assert curve.accs[ends].tolist() == [[task / 10] * 3 for task in range(len(totals))]


def test_without_them_there_is_no_curve() -> None:
    curve = empty_curve(0, [Length(7, 20)], 3)
    assert curve.stats() == {}
    assert curve.due(0, 7) is None
    assert curve.ahead(0, 7) > 10**9
    curve.end_task(np.ones(3))


def test_the_tests_after_tasks_are_in_the_curve(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(train_ep=2, train_ep_inc=1, eval_every=3, eval_tasks="seen")
    stream = stream_of(exp)
    record, _, _, heard = run(built, exp, stream)
    stats: Any = record.stats()
    assert stats["curve_steps"].tolist() == [3, 6, 9, 12, 15, 16, 19, 22, 24]
    assert stats["curve_tasks"].tolist() == [0] * 6 + [1] * 3
    np.testing.assert_array_equal(stats["curve_accs"][[5, 8]], stats["accs"])
    assert np.isnan(stats["curve_accs"][:6, 1]).all()
    assert not np.isnan(stats["curve_accs"][6:]).any()
    assert heard.found[:3] == [(0, 1, 3, 3), (0, 1, 6, 6), (0, 2, 9, 9)]


def test_a_test_within_a_task_is_one_of_the_network_as_it_is_then(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    """A run that ends there has the same accuracies."""
    keys: dict[str, Any] = {"num_batch": 2, "train_ep_inc": 1}
    exp = experiment(**keys, train_steps=8, eval_every=5)
    stream = stream_of(exp)
    record, _, _, _ = run(built, exp, stream)
    short = experiment(**keys, train_steps=5)
    np.testing.assert_array_equal(record.curve.accs[0], run(built, short, stream)[0].accs[0])


def test_icarl_is_tested_by_logits_within_a_task(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    """Of the classes of the task it has no means of exemplars yet."""
    keys = {**METHODS["icarl"], "train_ep": 4, "train_ep_inc": 4, "optimizer": "adam", "lr": 0.003}
    exp = experiment(**keys, eval_every=6, sparsify=False)
    record, _, _, _ = run(built, exp, stream_of(exp, train=160))
    within = record.curve.accs[(record.curve.tasks == 1) & (record.curve.at < 20)]
    assert within[-1, 1] > 0  # by means it would be 0


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    count=st.integers(1, 70),
)
def test_some_pictures_of_every_class(labels: list[int], count: int) -> None:
    """Each class its share, up to one picture."""
    from benchmarks.stream import Pictures, Task

    n = len(labels)
    pictures = Pictures(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.tensor(labels))
    samples = Samples(torch.arange(n), 0)
    parts: dict[str, Any] = {"training": (), "head_sizes": (4,), "scenario": "domain"}
    nothing = torch.zeros(0)
    parts |= {"targets": nothing, "mean": nothing, "std": nothing, "source": ""}
    stream = TaskStream(pictures, pictures, tasks=(Task("one", samples, samples),), **parts)
    [task] = some_of(stream, count)
    rows = task.test.rows.tolist()
    assert len({*rows}) == len(rows) == min(count, n)
    for kind in {*labels}:
        share = min(count, n) * labels.count(kind) / n
        assert abs(sum(labels[row] == kind for row in rows) - share) < 1 + 1e-9
    assert some_of(stream, 0) is stream.tasks


def test_what_was_before_is_told_in_order(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(train_ep=2, train_ep_inc=2, eval_every=3)
    stream = stream_of(exp)
    record, place, _, heard = run(built, exp, stream, in_the_middle)
    moments, testing = past(record, place)
    assert not testing
    kinds = {EpochDone: "e", TaskTested: "t", WithinTested: "w"}
    assert "".join(kinds[type(m)] for m in moments) == "wwewwwet"
    told = [(m.task - 1, m.epoch, m.step, m.number) for m in moments if isinstance(m, WithinTested)]
    assert told == heard.found
