"""Every key over its whole range, in pairs: two steps a task crash nowhere, and engines agree.

The values come from the kinds of the keys, so a new key takes part by itself. EVERY_KEY=1000 in the
environment tries so many experiments drawn at random instead, from EVERY_KEY_SEED on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import make_stream
from benchmarks.datasets import BUNDLED
from benchmarks.stream import Task, TaskStream
from exps.config import KEYS, Experiment, as_text, from_texts
from exps.experiment import REPEATS
from exps.kinds import Choice, ClassOrder, Device, Folder, Kind, Line, Number, OrNone, Switch, Whole
from exps.rules import contradictions
from models import make_model
from models.dropout import Dropout
from utils import checkpoint
from utils.engine import EngineError, first_layer, make_engine
from utils.engine.base import Engine
from utils.engine.sparse import SparseEngine
from utils.metrics import measure
from utils.progress import Progress
from utils.runtime import seed_everything
from utils.summary import plan, run_summary
from utils.training import DivergedError, RunRecord, empty_record, run_stream

CPU = torch.device("cpu")
TASKS = 3  # of those that an experiment has, so many are trained and tested
LARGEST = {"hidden_units": 300, "hidden_layers": 8}  # for a test; other keys go to their ends
TOLD = {"device": ["cpu"], "sparse_layers": ["own"]}  # what else there is, is not everywhere
ROUNDING = {"fp32": 1e-3, "bf16": 0.1}
SEARCH = int(os.environ.get("EVERY_KEY", "0"))

Values = dict[str, Any]
Draw = Callable[[random.Random], Any]


def values(name: str, kind: Kind, default: Any) -> list[Any]:
    """The ends of a kind, what is close to them or in between, and the default."""
    if name in TOLD:
        return TOLD[name]
    match kind:
        case Switch():
            return [False, True]
        case Choice():
            return list(kind.names)
        case ClassOrder():
            return ["sorted", "random", tuple(range(10))[::-1]]
        case Line() | Folder() | Device():
            return [default]
        case OrNone():
            return [None, *values(name, kind.kind, kind.kind.high)]
        case Whole():
            high = LARGEST.get(name, kind.high)
            return sorted({n for n in (kind.low, 2, 33, default, high) if kind.low <= n <= high})
        case Number():
            some = (kind.low, kind.low + 1e-70, 0.02, 0.3, 0.6, default, kind.high)
            some += (float(np.nextafter(kind.high, kind.low)),)
            return sorted({float(x) for x in some if accepted(kind, x)})
    raise AssertionError(f"{name} is of a kind that is not known here")


def anything(name: str, kind: Kind, source: random.Random) -> Any:
    """A value from all that the kind allows, most often one that `values` names."""
    usual = values(name, kind, KEYS[name].default)
    if not isinstance(kind, Number | Whole) or source.random() < 0.6:
        return source.choice(usual)
    if isinstance(kind, Whole):
        return source.randint(kind.low, min(LARGEST.get(name, kind.high), source.choice((9, 99, kind.high))) if kind.low < 9 else kind.high)
    x = source.choice((source.uniform(kind.low, kind.high), 10 ** source.uniform(-12, 0)))
    return x if accepted(kind, x) else source.choice(usual)


def accepted(kind: Kind, value: Any) -> bool:
    try:
        return kind.parse(as_text(value)) == value
    except ValueError:
        return False


def too_large(exp: Experiment) -> Iterator[tuple[str, ...]]:
    if exp.hidden_layers * exp.hidden_units**2 > 200_000:
        yield ("hidden_units", "hidden_layers")
    if exp.cnn and exp.hidden_units > 50:
        yield ("hidden_units",)
    if exp.scenario == "class" and exp.permuted and exp.num_batch > 100:
        yield ("num_batch",)


def made(given: Values, draw: Callable[[str], Any], source: random.Random) -> Values | None:
    """An experiment that can be run, with these values: the others are drawn, and anew where they
    contradict each other. None where that does not succeed."""
    drawn = {name: given[name] if name in given else draw(name) for name in KEYS}
    for _ in range(200):
        exp = Experiment(name="Every", **drawn)
        culprits = [keys for keys, _ in contradictions(exp)] + list(too_large(exp))
        if not culprits:
            return drawn
        free = [key for key in culprits[0] if key not in given]
        if not free:
            return None
        key = source.choice(free)
        drawn[key] = source.choice((draw(key), KEYS[key].default, source.choice(POOL[key])))
    return None


POOL = {name: values(name, key.kind, key.default) for name, key in KEYS.items()}
FREE = [name for name in KEYS if len(POOL[name]) > 1 and not name.startswith("expected")]


def pairs_of(drawn: Values) -> set[Any]:
    return {((a, drawn[a]), (b, drawn[b])) for a, b in combinations(FREE, 2)}


def in_pairs(seed: int = 0) -> Iterator[Values]:
    """Experiments in which every two values of two keys meet that can, most of them early."""
    source = random.Random(seed)
    open_pairs = {
        ((a, x), (b, y)) for a, b in combinations(FREE, 2) for x in POOL[a] for y in POOL[b]
    }
    order = sorted(open_pairs, key=repr)
    source.shuffle(order)
    for pair in order:
        if pair not in open_pairs:
            continue
        tries = (made(dict(pair), lambda name: source.choice(POOL[name]), source) for _ in range(8))
        best = max((t for t in tries if t), key=lambda t: len(pairs_of(t) & open_pairs), default=None)
        if best is not None:
            open_pairs -= pairs_of(best)
            yield best


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A few real pictures under the name of every data set: four of a class, two for testing."""
    folder = tmp_path_factory.mktemp("data")
    for name, source, classes in (
        ("mnist", "mnist.npz", 10),
        ("cifar10", "cifar10_sample.npz", 10),
        ("cifar100", "cifar10_sample.npz", 100),
    ):
        with np.load(BUNDLED / source) as file:
            x, count = file["x_train"][: 6 * classes], 4 * classes
        y = np.arange(len(x), dtype=np.uint8) % classes
        arrays = {"x_train": x[:count], "y_train": y[:count]}
        np.savez(folder / f"{name}.npz", **arrays, x_test=x[count:], y_test=y[count:])
    return str(folder)


def small_stream(exp: Experiment) -> TaskStream:
    """Its first tasks, with mini-batches enough for two steps."""
    whole = make_stream(exp)
    train, test = (3, 2) if exp.cnn else (40, 12)

    def cut(task: Task) -> Task:
        return replace(
            task, train=task.train.take(slice(train)), test=task.test.take(slice(test))
        )

    return replace(
        whole,
        training=tuple(map(cut, whole.training[:TASKS])),
        tasks=tuple(map(cut, whole.tasks[:TASKS])),
    )


@contextmanager
def same_dropout() -> Iterator[Callable[[int], None]]:
    """What is dropped depends on the step alone, which is told, and not on who draws it how."""
    now = 0

    def factors(shape: torch.Size, p: float) -> Tensor:
        generator = torch.Generator().manual_seed(now)
        return (torch.rand(shape, generator=generator) >= p) / (1 - p)

    def forward(self: Dropout, x: Tensor) -> Tensor:
        return x * factors(x.shape, self.p).to(x.dtype) if self.training else x

    def draw(self: SparseEngine, layer: int, unit: Tensor) -> Tensor:
        width = self.winners[layer].n
        return factors(torch.Size((len(unit), width)), self.dropout[layer]).gather(1, unit)

    def at(step: int) -> None:
        nonlocal now
        now = step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "forward", forward)
        patch.setattr(SparseEngine, "_draw", draw)
        yield at


@contextmanager
def double_precision() -> Iterator[None]:
    """All that would be in single precision: then rounding decides on no winner."""
    before, drawn = torch.get_default_dtype(), partial(torch.rand, dtype=torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "float", Tensor.double)
            patch.setattr(torch, "rand", lambda *args, **keys: drawn(*args, **keys).double())
            yield
    finally:
        torch.set_default_dtype(before)


def engine_of(exp: Experiment, stream: TaskStream) -> Engine:
    wanted = torch.get_default_dtype()
    torch.manual_seed(exp.seed)
    torch.set_default_dtype(torch.float32)  # the same weights in both precisions
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    torch.set_default_dtype(wanted)
    return make_engine(exp, model.to(wanted), stream, CPU)


def engines_of(exp: Experiment, stream: TaskStream) -> Iterator[tuple[str, Engine]]:
    """Every engine that knows the experiment, in the precision that it asks for; of the sparse one
    both ways of its first layer."""
    ways = (("reference", False), ("dense", False), ("sparse", False), ("sparse", True))
    for name, screened in ways:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(first_layer, "has_fast_bf16", lambda s=screened: s)
            patch.setattr(first_layer, "SCREENED", 4)
            try:
                yield name, engine_of(replace(exp, engine=name), stream)
            except EngineError:
                assert name == "sparse"


def two_steps(
    exp: Experiment, engine: Engine, stream: TaskStream, at: Callable[[int], None]
) -> list[dict[str, Any]]:
    """What training looks like on the first and the last mini-batch of each task."""
    found, size = [], exp.mb_size
    for number, task in enumerate(stream.training):
        if not exp.epochs_of(number):
            continue
        n = len(task.train)
        engine.begin_epoch(2)
        for step, part in enumerate((slice(size), slice((n - 1) // size * size, n))):
            at(2 * number + step)
            engine.step(task.train.take(part), task.head)
        losses = engine.state_dict()["meter"]["losses"].clone()
        done = engine.end_epoch()
        logits, labels = engine.logits(stream.tasks[0].test, stream.tasks[0].head)
        found.append(
            {
                "losses": losses.double(),
                "unit_on": torch.from_numpy(done.unit_on),
                "activity": torch.tensor([done.accuracy, done.active, done.active_std]).double(),
                "entropy": torch.from_numpy(done.entropy),
                "logits": logits.double(),
                "labels": labels,
                **{n: v.detach().clone() for n, v in engine.model.state_dict().items()},
                **{n: torch.from_numpy(v) for n, v in engine.measured(number).items()},
            }
        )
        if done.bad_step is not None:
            break
    return found


def difference(one: Tensor, two: Tensor) -> float:
    """The largest, as a share of the largest number."""
    if one.dtype == torch.bool or one.numel() == 0:
        return float(not torch.equal(one, two))
    one, two = one.double(), two.double()
    assert one.shape == two.shape
    assert torch.equal(one.isnan(), two.isnan())
    one, two = one.nan_to_num(), two.nan_to_num()
    return float((one - two).abs().max() / one.abs().max().clamp(min=1))


def engines_agree(exp: Experiment, stream: TaskStream) -> None:
    """In double precision, where a near tie that rounding could break does not occur: everything;
    in the precision asked for: the loss of the first step."""
    exact = replace(exp, precision="fp32")
    with same_dropout() as at:
        with double_precision():
            found = [(n, two_steps(exact, e, stream, at)) for n, e in engines_of(exact, stream)]
        rounded = [(n, two_steps(exp, e, stream, at)) for n, e in engines_of(exp, stream)]
    (_, expected), *others = found
    if abs(1 - exp.lr * exp.weight_decay) < 1e-6:
        others = []  # a step leaves nothing but rounding of weights
    for name, other in others:
        for task, (one, two) in enumerate(zip(expected, other, strict=True)):
            if not one["losses"].isfinite().all():
                assert not two["losses"].isfinite().all()
                break
            for what, value in one.items():
                distance = difference(value, two[what])
                assert distance < 1e-7, f"{name}, task {task + 1}, {what}: {distance:.1e}"
    for name, other in rounded:
        distance = difference(expected[0]["losses"][:1], other[0]["losses"][:1])
        assert distance < ROUNDING[exp.precision], f"{name}, {exp.precision}, {distance:.1e}, {expected[0]['losses'][:1]}"


class Stop(Exception):
    pass


def trained(exp: Experiment, stream: TaskStream, stops: int) -> RunRecord | None:
    """The record of a run that is interrupted and gone on with at this step or test; None where it
    diverges."""
    record, place, tree = None, None, None
    for attempt in range(2):
        order = seed_everything(exp.seed)
        engine = engine_of(exp, stream)
        record = empty_record(stream, engine.model)
        place = None if tree is None else checkpoint.put_back(tree, engine, record)
        place = place or checkpoint.Place()
        calls = 0

        def keep(_: bool, attempt: int = attempt) -> None:
            nonlocal calls
            calls += 1
            if attempt == 0 and calls == stops:
                raise Stop

        try:
            with Progress(len(stream.training), quiet=True) as progress:
                run_stream(exp, stream, engine, order, record, progress, place, keep)
            return record
        except DivergedError:
            return None
        except Stop:
            tree = checkpoint.take(engine, record, place)
    raise AssertionError


def run_as_usual(exp: Experiment, stream: TaskStream) -> None:
    """A run in the precision and with the engine that are asked for, once in one go and once
    interrupted: the same to the bit, and its record can be told."""
    short = replace(
        exp, train_ep=min(exp.train_ep, 2), train_ep_inc=min(exp.train_ep_inc, 1)
    )
    task = lambda t: replace(t, train=t.train.take(slice(2 * exp.mb_size)))  # noqa: E731
    stream = replace(stream, training=tuple(map(task, stream.training)))
    records = [trained(short, stream, stops) for stops in (0, 3)]
    one, two = records
    assert (one is None) == (two is None)
    if one is None or two is None:
        return
    assert "time" in run_summary(one)
    stats, again = one.stats(), two.stats()
    for name, value in stats.items():
        if name != "elapsed":
            np.testing.assert_equal(again[name], value)
    shares = [v for n, v in measure(stats).items() if n in ("average_accuracy", "entropy_ratio")]
    assert all(np.isnan(v) or 0 <= v <= 1 for v in shares)
