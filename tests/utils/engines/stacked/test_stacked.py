from __future__ import annotations

import copy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.utils.engines.stacked.cases import (
    CPU,
    KINDS,
    StreamOf,
    apart,
    experiment,
    network,
    pictures,
    stacked,
    tensors,
)
from utils.engines.autograd import AutogradEngine
from utils.engines.batch import Batch, Part
from utils.engines.mixed import plain as unmixed
from utils.engines.stacked.engine import StackedEngine
from utils.engines.stacked.plain import drawn, dropped

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not there")


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_reference_engines(kind: str, stream_of: StreamOf) -> None:
    exp = experiment(kind, dropout=0.0)
    stream = stream_of(exp)
    model = network(exp, stream, 0)
    reference = AutogradEngine(exp, copy.deepcopy(model), stream, CPU)
    engine = StackedEngine.alone(exp, model, stream, CPU)
    for its in (reference, engine):
        its.begin_epoch(30)
    for step in range(30):
        task = stream.training[step >= 15]
        first = step * exp.mb_size % 200
        some = task.train.take(slice(first, first + exp.mb_size - 3 * (step == 7)))

        batch = Batch((Part(some, task.head, outputs=task.among),))
        (one,), (other,) = reference.step(batch), engine.step(batch)
        assert apart(one, other) < 1e-4
    first, second = reference.end_epoch(), engine.end_epoch()
    assert first.loss == pytest.approx(second.loss, rel=1e-5)
    assert (first.accuracy, first.active) == pytest.approx((second.accuracy, second.active))
    assert (first.unit_on == second.unit_on).all()
    assert first.entropy == pytest.approx(second.entropy, rel=1e-4)
    assert engine.model is model
    states = reference.state_dict(), unmixed(engine.state_dict())
    for name, value in tensors(states[0]["model"]).items():
        assert apart(value, tensors(states[1]["model"])[name]) < 1e-4, name
    for name, value in tensors(states[0]["momentum"]).items():
        assert apart(value, tensors(states[1]["momentum"])[name]) < 1e-3, name
    for task in stream.tasks:
        for training in (False, True):
            samples = task.train if training else task.test
            one, labels = reference.logits(samples, task.head, training=training)
            other, same = engine.logits(samples, task.head, training=training)
            assert apart(one, other) < 1e-4
            assert labels.equal(same)
            features = reference.features(samples, training=training)
            assert apart(features, engine.features(samples, training=training)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_alone_and_in_company_a_seed_is_the_same(kind: str, stream_of: StreamOf) -> None:
    exp = experiment(kind)
    stream = stream_of(exp)
    company = stacked(exp, stream, [3, 4, 5, 6])
    stack, lengths = company[0].stack, [5, 0, 2, 3]  # one of them has nothing to do
    before = tensors(copy.deepcopy(company[1].state_dict()))
    orders = {
        s: (pictures(exp, stream, s % 2, n, short=s), stream.training[s % 2].head, None)
        for s, n in enumerate(lengths)
        if n
    }
    stack.run(orders)
    for name, value in tensors(company[1].state_dict()).items():
        assert torch.equal(before[name].nan_to_num(), value.nan_to_num()), name
    for s, (samples, head, outputs) in orders.items():
        (alone,) = stacked(exp, stream, [s + 3])
        alone.take_steps(samples, head, outputs)
        one, other = tensors(alone.state_dict()), tensors(company[s].state_dict())
        for name, value in one.items():
            assert apart(value, other[name]) < 1e-5, name


@pytest.mark.parametrize("kind", ["two layers of winners", "two relus, masked, no momentum"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_going_on_gives_the_same_bits(kind: str, precision: str, stream_of: StreamOf) -> None:
    exp = experiment(kind, precision=precision)
    stream = stream_of(exp)
    samples = pictures(exp, stream, 0, 12, short=1)
    (whole,), (begun,), (gone_on,) = (stacked(exp, stream, [seed]) for seed in (1, 1, 2))
    whole.take_steps(samples, 0, None)
    begun.take_steps(samples.take(slice(0, 5 * exp.mb_size)), 0, None)
    gone_on.load_state_dict(copy.deepcopy(begun.state_dict()))
    gone_on.stack.draws.seed.fill_(1)  # a run goes on with its own seed
    gone_on.take_steps(samples.take(slice(5 * exp.mb_size, None)), 0, None)
    one, other = tensors(whole.state_dict()), tensors(gone_on.state_dict())
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value.nan_to_num(), other[name].nan_to_num()), name
    test = stream.tasks[0].test
    assert whole.logits(test, 0)[0].equal(gone_on.logits(test, 0)[0])


def test_other_engines_go_on_with_it(stream_of: StreamOf) -> None:
    exp = experiment("two layers of winners", dropout=0.0)
    stream = stream_of(exp)
    (engine,) = stacked(exp, stream, [0])
    engine.take_steps(pictures(exp, stream, 0, 6), 0, None)
    reference = AutogradEngine(exp, network(exp, stream, 1), stream, CPU)
    reference.begin_epoch(40)
    reference.load_state_dict(copy.deepcopy(engine.state_dict()))
    (back,) = stacked(exp, stream, [0])
    back.load_state_dict(copy.deepcopy(reference.state_dict()))
    some = Batch.of(stream.training[0].train.take(slice(60, 68)), 0)
    one, *others = (its.step(some)[0] for its in (engine, reference, back))
    assert all(apart(one, other) < 1e-4 for other in others)


def test_random_numbers_are_philox() -> None:
    """The known answers of its authors: counter and key of zeros, and of ones."""
    zero, ones = torch.tensor([0]), torch.tensor([0xFFFFFFFF])
    assert drawn(zero, zero, zero, 0).item() == 0x6627E8D5
    one = drawn(torch.tensor([-1]), ones, ones, 0)
    assert 0 <= one.item() < 2**32


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_nothing_is_related(p: float) -> None:
    place = torch.arange(2**16)
    of = {
        (seed, taken, layer): drawn(torch.tensor(seed), place, torch.tensor(taken), layer)
        for seed in (0, 1, 2**40)
        for taken in (0, 1)
        for layer in (0, 1)
    }
    off = torch.stack([bits < dropped(p) for bits in of.values()]).double()
    spread = (p * (1 - p) / len(place)) ** 0.5
    assert (off.mean(1) - p).abs().max() < 5 * spread
    related = torch.corrcoef(off) - torch.eye(len(off))
    assert related.abs().max() < 5 / len(place) ** 0.5


@needs_triton
@pytest.mark.parametrize("script", ["interpreted.py", "compiled.py"])
def test_kernels(script: str) -> None:
    """Without a GPU: what they compute, by interpretation, and that they compile for GPUs."""
    done = subprocess.run(
        [sys.executable, str(HERE / script)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("seeds", [[1], [1, 2]])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_what_the_plain_path_gives(
    kind: str, seeds: list[int], stream_of: StreamOf
) -> None:
    device = torch.device("cuda:0")
    exp = experiment(kind)
    stream = stream_of(exp)
    on_card = stream.to(device)
    found: list[Any] = []
    for its, where in ((stream, CPU), (on_card, device), (on_card, device)):
        members = stacked(exp, its, seeds, where)
        stack = members[0].stack
        for _ in range(4):  # recorded, too
            samples = pictures(exp, its, 0, 4, short=1)
            stack.run(dict.fromkeys(range(len(seeds)), (samples, 0, None)))
        found.append([tensors(copy.deepcopy(member.state_dict())) for member in members])
    plain, first, again = found
    for s in range(len(seeds)):
        for name, value in first[s].items():
            assert torch.equal(value.nan_to_num(), again[s][name].nan_to_num()), name
            assert apart(plain[s][name], value.cpu()) < 1e-4, name
