"""Every key over its whole range, in pairs: two steps a task crash nowhere, and engines agree.

The values come from the kinds of the keys, so a new key takes part by itself. With EVERY_KEY=5000
in the environment it is so many experiments: some two hundred until all pairs of values have met,
and from there on whatever the kinds allow.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import chain, combinations, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import make_stream
from benchmarks.datasets import BUNDLED, DataError
from benchmarks.stream import Task, TaskStream
from exps.config import ABOUT, Experiment, as_text, from_texts
from exps.kinds import (
    Choice,
    Choices,
    ClassOrder,
    Device,
    Folder,
    Kind,
    Line,
    Number,
    OrNone,
    Several,
    Shares,
    Switch,
    Whole,
)
from exps.manual import all_keys
from exps.messages import Told
from exps.plugins import IMPLIED, One, Some
from exps.rules import contradictions
from models import make_model
from models.dropout import Dropout
from utils.engines import choose as engine
from utils.engines import cuda_graph as replay
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.engines.choose import EngineError, make_engine
from utils.engines.cuda_graph import CudaGraphEngine
from utils.engines.winners import first_layer
from utils.engines.winners.engine import SparseEngine
from utils.live.progress import Progress
from utils.methods.base import Method, Moment
from utils.methods.make import make_methods
from utils.results.metrics import measure
from utils.runs import checkpoint
from utils.runs.summary import plan, run_summary
from utils.system.runtime import seed_everything
from utils.training.examiner import DivergedError
from utils.training.loop import run_stream
from utils.training.record import Place, RunRecord, empty_record, lengths

KEYS = all_keys()
COUNT = int(os.environ.get("EVERY_KEY", "64"))  # experiments
LARGEST = {
    "hidden_units": 128,
    "hidden_layers": 8,
    "channels": 8,
    "filters": 64,
    "buffer_size": 1000,
    "buffer_per_class": 30,
    "dgr_units": 128,
    "dgr_latent": 200,
}  # for a test; other keys go to their ends
THE_SAME = (
    *ABOUT,
    "data_dir",
    "device",
    "sparse_layers",
    "checkpoint_every",
    "keep_weights",
    "begin_with",
    "stream",  # others have pictures of all tasks in each: test_pairs and test_boundaries have them
)  # in all of them
ROUNDING = {"fp32": 1e-3, "bf16": 0.1}  # of a loss; the difference of single winners included
PULLING = ("ewc", "si", "mas")
CPU = torch.device("cpu")
_OWN = TemporaryDirectory(prefix="own-")  # gone with the process


def own_files() -> list[str]:
    """Features, pictures of floats, and of words in three channels: six of ten classes each."""
    draw, y = np.random.default_rng(0), np.arange(60) % 10
    found = (
        ("features", draw.normal(size=(60, 33)), y),
        ("floats", draw.normal(size=(60, 10, 11)), y - 3),
        ("words", draw.integers(0, 256, (60, 9, 9, 3), np.uint8), y.astype("U")),
    )
    paths = [str(Path(_OWN.name, f"{name}.npz")) for name, _, _ in found]
    for path, (_, x, labels) in zip(paths, found, strict=True):
        np.savez(path, x=x, y=labels)
    return paths


Values = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]


def accepted(kind: Kind, value: Any) -> bool:
    """Whether it is one, and is read as it is written."""
    try:
        return kind.parse(as_text(value)) == value
    except ValueError:
        return False


def values(name: str, kind: Kind, default: Any) -> list[Any]:
    """The ends of a kind, what is close to them or in between, and the default."""
    match kind:
        case _ if name in THE_SAME:
            return [default]
        case Switch():
            return [False, True]
        case Choice() | One():
            # Patches look at more pictures than there are here; test_patches.py has them.
            return [n for n in kind.names if n != "patches"]
        case ClassOrder():
            return ["sorted", "random", tuple(range(10))[::-1]]
        case Some():
            names = tuple(name for name in kind.names if name not in IMPLIED)
            return [(), *((name,) for name in names), ("census", "er", "ewc")]
        case Shares():
            return [default, (0.5,), (1e-9, 0.3, 0.999)]
        case Choices():
            return [(), *((name,) for name in kind.names), kind.names]
        case _ if name == "data_file":
            return own_files()
        case Several(Whole()):
            return [(), (2, 5), (5, 2, 3)]
        case Several():
            return [(), (0.3,)]
        case OrNone():
            return [None, *values(name, kind.kind, kind.kind.high)]
        case Whole():
            some = (kind.low, 2, 33, default, LARGEST.get(name, kind.high))
            return sorted({n for n in some if kind.low <= n <= some[-1]})
        case Number():
            close = float(np.nextafter(kind.high, kind.low))
            wanted = (kind.low, kind.low + 1e-70, 0.02, 0.3, 0.6, default, close, kind.high)
            return sorted({float(x) for x in wanted if accepted(kind, x)})
        case Line() | Folder() | Device():
            return [default]
    raise AssertionError(f"{name} is of a kind that is not known here")


POOL = {name: values(name, key.kind, key.default) for name, key in KEYS.items()}
POOL["engine"].remove("stacked")  # of what is drawn here hardly any may have it: see stacked/
USUAL = {
    name: min(key.default, LARGEST[name]) if name in LARGEST else key.default
    for name, key in KEYS.items()
} | {"data_file": POOL["data_file"][0]}


def anything(name: str, source: random.Random) -> Any:
    """A value from all that a key allows, of any size, but often one that `values` names."""
    kind, x = KEYS[name].kind, source.choice(POOL[name])
    if isinstance(kind, Number) and source.random() < 0.3:
        x = source.choice((source.uniform(kind.low, kind.high), 10 ** source.uniform(-12, 0)))
    elif isinstance(kind, Whole) and source.random() < 0.3:
        x = min(int(10 ** source.uniform(0, 6)), POOL[name][-1])
    return x if accepted(kind, x) else source.choice(POOL[name])


def too_large(exp: Experiment) -> Iterator[tuple[str, ...]]:
    """The keys that make the network too large for a test."""
    if exp.uses("percent_on_conv") and exp.hidden_units > 8:
        yield ("hidden_units",)
    if exp.scenario != "domain" and not exp.facts.split and exp.num_batch > 100:
        yield ("num_batch",)


def made(given: Values, draw: Callable[[str], Any], source: random.Random) -> Values | None:
    """An experiment that can be run, with these values: the others are drawn, and anew where they
    contradict each other. None where that does not succeed."""
    drawn = {name: given[name] if name in given else draw(name) for name in KEYS}
    for _ in range(200):
        exp = Experiment(name="Every", **drawn)
        culprits = next(chain((keys for keys, _ in contradictions(exp)), too_large(exp)), None)
        if culprits is None:
            agreeing = drawn | {"num_batch": exp.num_batch}
            return agreeing if given.items() <= agreeing.items() else None
        free = [key for key in culprits if key not in given]
        if not free:
            return None
        key = source.choice(free)
        drawn[key] = source.choice((draw(key), USUAL[key], source.choice(POOL[key])))
    return None


def pairs_of(drawn: Values) -> set[Pair]:
    """All pairs of its values."""
    return {((a, drawn[a]), (b, drawn[b])) for a, b in combinations(KEYS, 2)}


def in_pairs() -> Iterator[Values]:
    """Experiments in which every two values of two keys meet that can, most of them early."""
    source = random.Random(1)
    missing = {((a, x), (b, y)) for a, b in combinations(KEYS, 2) for x in POOL[a] for y in POOL[b]}
    for pair in source.sample(sorted(missing, key=repr), len(missing)):
        if pair in missing:
            tries = [made(dict(pair), lambda n: source.choice(POOL[n]), source) for _ in range(8)]
            found = [pairs_of(drawn) & missing for drawn in tries if drawn]
            if found:
                best = max(found, key=len)
                yield next(drawn for drawn in tries if drawn and best <= pairs_of(drawn))
                missing -= best


def one_by_one() -> Iterator[Values]:
    """Few experiments in which every value of every key is tried."""
    source = random.Random(0)
    missing = {(name, x) for name in KEYS for x in POOL[name]}
    for name, x in source.sample(sorted(missing, key=repr), len(missing)):
        if (name, x) in missing:
            tries = (made({name: x}, lambda n: source.choice(POOL[n]), source) for _ in range(1000))
            some = islice(filter(None, tries), 8)
            found = max(some, key=lambda drawn: len(missing & drawn.items()))
            missing -= found.items()
            yield found


def at_random(seed: int = 0) -> Iterator[Values]:
    """Experiments half of whose keys, or so, have any values."""
    source = random.Random(seed)

    def draw(name: str) -> Any:
        return anything(name, source) if source.random() < 0.5 else USUAL[name]

    while True:
        drawn = made({}, draw, source)
        if drawn is not None:
            yield drawn


@pytest.fixture(scope="module")
def experiments() -> Callable[[int], Values]:
    """The experiments by number, made when they are asked for."""
    source, known = chain(one_by_one(), in_pairs(), at_random()), list[Values]()

    def get(number: int) -> Values:
        while len(known) <= number:
            known.append(next(source))
        return known[number]

    return get


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A few real pictures under the name of every data set: four of a class, two for testing."""
    folder = tmp_path_factory.mktemp("data")
    for name, source, classes in (
        *((name, "mnist.npz", 10) for name in ("mnist", "fashion", "kmnist")),
        ("cifar10", "cifar10_sample.npz", 10),
        ("cifar100", "cifar10_sample.npz", 100),
        ("emnist-balanced", "mnist.npz", 47),
        ("emnist-letters", "mnist.npz", 26),
        ("svhn", "cifar10_sample.npz", 10),
        ("tinyimagenet", "cifar10_sample.npz", 200),
    ):
        with np.load(BUNDLED / source) as file:
            x, count = file["x_train"], 4 * classes
        x = np.resize(x, (6 * classes, *x.shape[1:]))
        y = np.arange(len(x), dtype=np.uint8) % classes
        arrays = {"x_train": x[:count], "y_train": y[:count]}
        np.savez(folder / f"{name}.npz", **arrays, x_test=x[count:], y_test=y[count:])
    return str(folder)


def small_stream(exp: Experiment) -> TaskStream:
    """The first two of its tasks, with a few pictures."""
    train, test = (2, 1) if exp.uses("percent_on_conv") else (35, 6)

    def cut(task: Task) -> Task:
        return replace(task, train=task.train.take(slice(train)), test=task.test.take(slice(test)))

    whole = make_stream(exp)
    training, tasks = tuple(map(cut, whole.training[:2])), tuple(map(cut, whole.tasks[:2]))
    return replace(whole, training=training, tasks=tasks)


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
        shape = torch.Size((len(unit), self.winners[layer].n))
        return factors(shape, self.dropout[layer]).gather(1, unit)

    def draws(shape: torch.Size, p: float, device: torch.device) -> tuple[Tensor, int, float]:
        return (factors(shape, p) > 0).short(), 1, 1 / (1 - p)

    def at(step: int) -> None:
        nonlocal now
        now = step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "forward", forward)
        if find_spec("numba"):
            patch.setattr("utils.engines.compiled.rectified.draws", draws)
        patch.setattr(SparseEngine, "_draw", draw)
        yield at


@contextmanager
def double_precision() -> Iterator[None]:
    """All that would be in single precision is in double, and what is drawn stays the same."""
    before, single = torch.get_default_dtype(), partial(torch.rand, dtype=torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        patch.setattr(torch, "rand", lambda *args, **keys: single(*args, **keys).double())
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


class Again:
    """A recorder that keeps the step itself."""

    def warm_up(self, step: Callable[[], None]) -> None:
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


def engine_of(exp: Experiment, stream: TaskStream) -> tuple[Engine, list[Method]]:
    """With the weights of single precision, whatever the precision is."""
    wanted = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    torch.set_default_dtype(wanted)
    methods = make_methods(exp, stream)
    return make_engine(exp, model.to(wanted), stream, CPU, methods), methods


def engines_of(
    exp: Experiment, stream: TaskStream
) -> Iterator[tuple[str, tuple[Engine, list[Method]]]]:
    """Every engine that knows the experiment: first the reference, of the dense one its recorded
    steps too, of the sparse one both ways of its first layer."""
    for way in ("reference", "dense", "replayed", "full", "rounded"):
        name = {"replayed": "dense", "full": "sparse", "rounded": "sparse"}.get(way, way)
        with pytest.MonkeyPatch.context() as patch:
            if way == "replayed":
                patch.setattr(replay, "WARM_UP", 0)
                patch.setattr(engine, "FusedEngine", partial(CudaGraphEngine, recorder=Again()))
            patch.setattr(first_layer, "has_fast_int8", lambda w=way: w == "rounded")
            patch.setattr(first_layer, "ROUNDED", 4)
            torch.manual_seed(exp.seed)
            try:
                yield way, engine_of(replace(exp, engine=name), stream)
            except EngineError:
                assert name == "sparse"


def two_steps(
    exp: Experiment,
    parts: tuple[Engine, list[Method]],
    stream: TaskStream,
    at: Callable[[int], None],
) -> list[Values]:
    """What training on the first and the last mini-batch of each task comes to, a task each."""
    found, size, (engine, methods) = [], exp.mb_size, parts
    extra = [method.loss for method in methods]
    for number, (task, length) in enumerate(
        zip(stream.training, lengths(exp, stream), strict=True)
    ):
        if not length.total:
            continue
        n = len(task.train)
        if number and exp.reset_optimizer == "task":
            engine.restart()
        for method in methods:
            method.begin_task(engine, number)
        engine.begin_epoch(2)
        for step, part in enumerate((slice(size), slice((n - 1) // size * size, n))):
            at(2 * number + step)
            batch = Batch.of(task.train.take(part), task.head)
            now = Moment(number, step, 2, 2 * length.epochs)
            for method in methods:
                batch = method.before_step(engine, batch, now)
            logits = engine.step(batch, extra)
            for method in methods:
                method.after_step(engine, batch, logits)
        losses = engine.state_dict()["meter"]["losses"].clone()
        done = engine.end_epoch()
        for method in methods:
            method.end_task(engine, number)
        logits, labels = engine.logits(stream.tasks[0].test, stream.tasks[0].head)
        shares = torch.tensor([done.accuracy, done.active, done.active_std])
        counted = {"unit_on": done.unit_on, "entropy": done.entropy}
        counted |= {name: value for m in methods for name, value in m.result().items()}
        seen = {"losses": losses, "logits": logits, "labels": labels, "shares": shares}
        seen |= {name: torch.from_numpy(array) for name, array in counted.items()}
        found.append(seen | {n: p.detach().clone() for n, p in engine.model.state_dict().items()})
        if done.bad_step is not None:
            break
    return found


def difference(one: Tensor, two: Tensor) -> float:
    """The largest between their numbers, as a share of the largest of these, or absolute if that is
    below 1."""
    assert one.shape == two.shape
    one, two = one.double(), two.double()
    if not torch.equal(one.isnan(), two.isnan()):
        return float("inf")
    size = one.nan_to_num().abs().amax().clamp(min=1) if one.numel() else one.sum() + 1
    return float((one - two).nan_to_num().abs().sum() / size)


def engines_agree(exp: Experiment, stream: TaskStream) -> None:
    """In double precision in everything, as rounding then decides on no winner; in the precision
    asked for, where it may, in the loss of the first step."""
    exact = replace(exp, precision="fp32")
    with same_dropout() as at:
        with double_precision():
            found = [(n, two_steps(exact, e, stream, at)) for n, e in engines_of(exact, stream)]
        begin = replace(stream, training=stream.training[:1])
        rounded = [(n, two_steps(exp, e, begin, at)) for n, e in engines_of(exp, stream)]
    (_, expected), *others = found
    noise = abs(1 - exp.lr * exp.weight_decay) < 1e-6  # is what such a step leaves of weights
    # Adam divides by the size of a gradient, also where that is rounding, and a pull beyond all
    # measure grows it: test_pairs and test_adam compare these at ordinary values.
    strong = {name: getattr(exp, f"{name}_strength") for name in exp.methods if name in PULLING}
    noise |= exp.optimizer != "sgd" or any(strength > 1e3 for strength in strong.values())
    for name, other in [] if noise else others:
        for task, (one, two) in enumerate(zip(expected, other, strict=True)):
            finite = one["losses"].isfinite().all()
            assert finite == two["losses"].isfinite().all(), name
            for what, value in one.items() if finite else ():
                distance = difference(value, two[what])
                assert distance < 1e-7, f"{name}, task {task + 1}, {what}: {distance:.1e}"
    if not expected:
        return  # nothing is trained
    first = expected[0]["losses"][:1]
    if exp.precision == "bf16" and (first > 10).any():
        return  # logits in the hundreds, of which bf16 keeps whole numbers
    for name, other in rounded:
        distance = difference(first, other[0]["losses"][:1])
        assert distance < ROUNDING[exp.precision], f"{name}, first loss: {distance:.1e}"


class Interrupted(Exception):
    """A run was stopped."""


def trained(exp: Experiment, stream: TaskStream, stop: int) -> RunRecord | None:
    """The record of a run that is interrupted at its step or test of this number (0: not), and gone
    on with; None where it diverges."""
    tree = None
    for count in (stop, 0):
        order = seed_everything(exp.seed)
        engine, methods = engine_of(exp, stream)
        record = empty_record(exp, stream, engine.model)
        place = Place() if tree is None else checkpoint.put_back(tree, engine, methods, record)
        left = iter(range(count - 1, -1, -1))

        def keep(_: bool, left: Iterator[int] = left) -> None:
            if next(left, -1) == 0:
                raise Interrupted

        try:
            with Progress(len(stream.training), quiet=True) as progress:
                run_stream(exp, stream, engine, methods, order, record, progress, place, keep)
        except DivergedError:
            return None
        except Interrupted:
            tree = checkpoint.take(engine, methods, record, place)
        else:
            return record
    raise AssertionError("a run is interrupted once")


def run_is_whole(exp: Experiment, stream: TaskStream) -> None:
    """With the engine and precision asked for, in one go and interrupted: the same to the bit, and
    its record can be told."""
    steps = {key: min(getattr(exp, key), 3) for key in ("train_steps", "train_steps_inc")}
    exp = replace(exp, train_ep=1, train_ep_inc=min(exp.train_ep_inc, 1), **steps)
    short = [replace(t, train=t.train.take(slice(2 * exp.mb_size))) for t in stream.training]
    stream = replace(stream, training=tuple(short))
    whole, resumed = (trained(exp, stream, stop) for stop in (0, 3))
    assert (whole is None) == (resumed is None)
    if whole is None or resumed is None:
        return
    stats, again = whole.stats(), resumed.stats()
    for name in stats.keys() - {"elapsed", "train_seconds"}:
        np.testing.assert_equal(again[name], stats[name])
    found = measure(stats)
    assert all(not found[name] > 1 for name in ("entropy_ratio", "active_percentage"))
    assert "time" in run_summary(whole)
    assert "work" in plan(exp, stream, engine_of(exp, stream)[0])


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.filterwarnings("ignore")
def test_two_steps_of_any_experiment(
    number: int, experiments: Callable[[int], Values], data_dir: str
) -> None:
    drawn = experiments(number)
    exp = from_texts("Every", {name: as_text(value) for name, value in drawn.items()})
    exp = replace(exp, data_dir=data_dir)
    try:
        stream = small_stream(exp)
    except DataError as error:
        # One picture a class, and a share held out.
        assert any(why in str(error) for why in ("no test pictures", "two training pictures"))
        return
    try:
        engines_agree(exp, stream)
        run_is_whole(exp, stream)
    except EngineError as error:
        assert exp.engine in ("sparse", "stacked")
        reasons = "lazy updates", "own k-winners", "without more rules"
        assert any(reason in str(error) for reason in reasons)
    except Told as error:
        assert "the classifier cannot be computed" in str(error)  # features that are sums of others
    except Exception as error:
        changes = {k: v for k, v in drawn.items() if v != USUAL[k]}
        raise AssertionError(f"{error} ({changes})") from error


def test_every_value_of_every_key_is_tried(experiments: Callable[[int], Values]) -> None:
    tried = {(name, x) for n in range(64) for name, x in experiments(n).items()}
    assert tried >= {(name, x) for name in KEYS for x in POOL[name]}
