from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing import Pipe
from typing import Any

import pytest
import torch

from exps.messages import Told
from tests.utils.engines.stacked.cases import (
    CPU,
    StreamOf,
    apart,
    experiment,
    network,
    pictures,
    stacked,
    tensors,
)
from utils.engines.batch import Batch
from utils.engines.stacked import company as its
from utils.engines.stacked.company import Company, RemoteEngine
from utils.system.place import Place

KIND = "two layers of winners"
Join = Callable[[int], RemoteEngine]


@pytest.fixture
def exp() -> Any:
    return experiment(KIND)


@pytest.fixture
def stream(exp: Any, stream_of: StreamOf) -> Any:
    return stream_of(exp)


@pytest.fixture
def join(exp: Any, stream: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """Networks by their seeds, in a company for three of them, which is in this process."""

    def make(wanted: Any) -> Any:
        return stream, network(wanted, stream, wanted.seed), CPU

    company = Company(make)
    with ExitStack() as stack:

        def called(_: Place) -> Any:
            here, there = Pipe()
            threading.Thread(target=company.serve, args=(there,), daemon=True).start()
            stack.callback(here.close)
            return here

        monkeypatch.setattr(its, "_called", called)

        def join(seed: int) -> RemoteEngine:
            wanted = experiment(KIND, seed=seed)
            model = network(wanted, stream, seed)
            engine = RemoteEngine(Place("", b"", 3), wanted, model, stream)
            engine.begin_epoch(40)
            return engine

        yield join


def at_once(*calls: Callable[[], object]) -> list[BaseException | None]:
    """Each in a thread of its own; what they raised. A call that never ends fails the test."""
    raised: list[BaseException | None] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            calls[number]()
        except BaseException as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "it waits for somebody"
    return raised


def test_a_run_in_company_is_the_run_alone(exp: Any, stream: Any, join: Join) -> None:
    engines, lengths = [join(seed) for seed in (1, 2, 3)], (6, 4, 5)

    def train(engine: RemoteEngine, steps: int) -> Callable[[], None]:
        def run() -> None:
            samples = pictures(exp, stream, 0, steps, short=1)
            engine.take_steps(samples.take(slice(0, 2 * exp.mb_size)), 0, None)
            state = copy.deepcopy(engine.state_dict())  # while the others wait
            engine.load_state_dict(state)
            engine.take_steps(samples.take(slice(2 * exp.mb_size, None)), 0, None)

        return run

    assert at_once(*map(train, engines, lengths)) == [None] * 3
    test = stream.tasks[0].test
    for seed, engine, steps in zip((1, 2, 3), engines, lengths, strict=True):
        (alone,) = stacked(exp, stream, [seed])
        alone.take_steps(pictures(exp, stream, 0, steps, short=1), 0, None)
        one, other = tensors(alone.state_dict()), tensors(engine.state_dict())
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert apart(value, other[name]) < 1e-5, name
        assert apart(alone.logits(test, 0)[0], engine.logits(test, 0)[0]) < 1e-5
        assert apart(alone.features(test), engine.features(test)) < 1e-5
        first, second = alone.end_epoch(), engine.end_epoch()
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
        for name, value in tensors(alone.model.state_dict()).items():
            assert apart(value, tensors(engine.model.state_dict())[name]) < 1e-5, name


def test_who_leaves_is_not_waited_for_and_its_place_is_free(
    exp: Any, stream: Any, join: Join
) -> None:
    engines = [join(seed) for seed in (1, 2, 3)]
    samples = pictures(exp, stream, 0, 2)

    def leave() -> None:
        engines[2].line.close()

    calls = [lambda e=e: e.take_steps(samples, 0, None) for e in engines[:2]]
    assert at_once(*calls, leave) == [None] * 3
    late = join(4)
    calls = [lambda e=e: e.take_steps(samples, 0, None) for e in (*engines[:2], late)]
    assert at_once(*calls) == [None] * 3
    (alone,) = stacked(exp, stream, [4])
    alone.take_steps(samples, 0, None)
    for name, value in tensors(alone.state_dict()).items():
        assert apart(value, tensors(late.state_dict())[name]) < 1e-5, name


def test_what_goes_wrong_in_a_step_is_told_to_all(
    exp: Any, stream: Any, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [join(1), join(2)]

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(its.Stack, "run", fail)
    samples = pictures(exp, stream, 0, 1)
    raised = at_once(*(lambda e=e: e.take_steps(samples, 0, None) for e in engines))
    assert [str(error) for error in raised] == ["CUDA out of memory"] * 2
    assert all(isinstance(error, RuntimeError) for error in raised)


def test_a_company_that_has_ended_is_told(tmp_path: Any, exp: Any, stream: Any) -> None:
    nowhere = Place(str(tmp_path / "gone" / "line"), b"", 1)
    with pytest.raises(Told, match="the same command again"):
        RemoteEngine(nowhere, exp, network(exp, stream, 0), stream)


def test_it_is_for_steps_that_are_taken_together(stream: Any, join: Join) -> None:
    engine = join(1)
    samples = stream.training[0].train.take(slice(0, 8))
    for call in (
        lambda: engine.step(Batch.of(samples, 0)),
        lambda: engine.scale({}),
        lambda: engine.pull("ewc", {}),
        engine.follow_masks,
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_what_a_company_cannot_train_is_trained_alone(
    stream: Any, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(its.StackedEngine, "declines", lambda *_: "stacked: not here")
    wanted = experiment(KIND)
    assert (
        RemoteEngine.joined(Place("", b"", 3), wanted, network(wanted, stream, 0), stream) is None
    )
    monkeypatch.undo()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_answer_that_cannot_be_sent_frees_the_place(
    exp: Any, stream: Any, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = join(1), join(2)
    send = its._send

    def fail(line: Any, value: Any) -> None:
        if isinstance(value, tuple) and value[0] is True and isinstance(value[1], dict):
            raise MemoryError("no room for the answer")
        send(line, value)

    monkeypatch.setattr(its, "_send", fail)
    with pytest.raises(Told):
        other.state_dict()
    monkeypatch.setattr(its, "_send", send)
    assert at_once(lambda: one.take_steps(pictures(exp, stream, 0, 2), 0, None)) == [None]
