"""A run that goes on from a checkpoint ends with the same bits, wherever it was taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from utils.engines.base import Engine
from utils.live.progress import Progress
from utils.methods.base import Method
from utils.runs import checkpoint, checkpoint_file
from utils.runs.checkpoint_file import CheckpointError
from utils.training.loop import run_stream
from utils.training.record import Place, RunRecord, empty_record

ENGINES = ("reference", "sparse", "dense")
# All kinds of state: a head per task, momentum, masks, boosting that decays, dropout, two layers.
FULL = {
    "mnist_mode": "split",
    "num_batch": 3,
    "scenario": "task",
    "hidden_layers": 2,
    "weight_sparsity_fc": 0.5,
    "boost_strength": 1.5,
    "boost_strength_factor": 0.8,
    "train_ep": 2,
    "train_ep_inc": 1,
}
GROW = {"dynamic": "grow", "initial_density_fc": 0.2, "grow_per_task": 0.1, "grow_every": 2}
SLOW = {"old_synapse_lr": 0.2, "weight_decay": 0.0}
Built = Callable[[Experiment, TaskStream], tuple[Engine, list[Method], torch.Generator]]


class Enough(Exception):
    """The run has been called often enough."""


class Killer:
    """Ends the run at the call with this number, with a checkpoint of that moment in a file."""

    def __init__(self, at: int, path: Path) -> None:
        self.at, self.path, self.calls = at, path, 0

    def __call__(self, _done: bool) -> None:
        self.calls += 1
        if self.calls == self.at:
            checkpoint_file.write(self.path, {}, checkpoint.take(*self.state))
            raise Enough

    state: tuple[Engine, list[Method], RunRecord, Place]


def run(
    built: Built,
    exp: Experiment,
    stream: TaskStream,
    keep: Killer | None = None,
    tree: Any = None,
) -> tuple[RunRecord, Engine]:
    """A run from the beginning or from the tree of a checkpoint, to the end or until `keep` ends
    it."""
    engine, methods, order = built(exp, stream)
    record = empty_record(exp, stream, engine.model)
    place = Place() if tree is None else checkpoint.put_back(tree, engine, methods, record)
    if keep is not None:
        keep.state = engine, methods, record, place
    with Progress(len(stream.training), quiet=True) as progress:
        parts = exp, stream, engine, methods, order, record, progress, place
        run_stream(*parts, *([] if keep is None else [keep]))
    return record, engine


def bits(value: Any) -> Any:
    """Something that is equal only for the same bits."""
    if isinstance(value, dict):
        times = ("elapsed", "train_seconds")
        return {key: bits(item) for key, item in value.items() if key not in times}
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


def everything(record: RunRecord, engine: Engine) -> Any:
    return bits(record.stats()), bits(dict(engine.model.state_dict()))


def test_from_everywhere(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path
) -> None:
    """In every step, between tasks, in the middle of testing: at each call there is."""
    exp = experiment(**FULL | {"num_batch": 2, "hidden_layers": 1, "train_ep": 1})
    stream = stream_of(exp, train=70, test=40)
    counter = Killer(0, tmp_path / "none")
    expected = everything(*run(built, exp, stream, counter))
    assert counter.calls == 2 * 3 + 3 * 2 + 2  # steps, batches tested, tasks done
    for at in range(1, counter.calls + 1):
        assert everything(*interrupted(built, exp, stream, at, tmp_path)) == expected


def interrupted(
    built: Built, exp: Experiment, stream: TaskStream, at: int, folder: Path
) -> tuple[RunRecord, Engine]:
    path = folder / f"{at}.ckpt"
    with pytest.raises(Enough):
        run(built, exp, stream, Killer(at, path))
    torch.manual_seed(1234)  # another process would have drawn other numbers
    _, tree = checkpoint_file.read(path, 2**30)
    return run(built, exp, stream, tree=tree)


def test_costs_and_times_go_on(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path
) -> None:
    """Those of a task that was trained before the interruption are not counted again."""
    exp = experiment(methods=("er", "ewc"), train_ep=1, train_ep_inc=1, eval_tasks="seen")
    stream = stream_of(exp, train=70, test=40)
    counter = Killer(0, tmp_path / "none")
    expected = run(built, exp, stream, counter)[0]
    assert set(expected.method_costs) == {"er", "ewc"}
    path = tmp_path / "last.ckpt"
    with pytest.raises(Enough):  # the last batch is tested
        run(built, exp, stream, Killer(counter.calls - 1, path))
    _, tree = checkpoint_file.read(path, 2**30)
    before = tree["record"]["train_seconds"]
    found = run(built, exp, stream, tree=tree)[0]
    assert found.method_costs == expected.method_costs
    assert found.steps == expected.steps == 2 * 3
    assert found.train_seconds == before > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("at", [3, 7, 12, 20])
def test_on_every_engine(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path, engine: str, at: int
) -> None:
    exp = experiment(**FULL, engine=engine)
    stream = stream_of(exp, train=120, test=40)
    expected = everything(*run(built, exp, stream))
    assert everything(*interrupted(built, exp, stream, at, tmp_path)) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"engine": "dense", "cnn": True, "percent_on_conv": 0.2, "hidden_units": 32},
        {"engine": "reference", "cnn": True, "sparsify": False, "hidden_units": 32},
        {"engine": "dense", "sparsify": False, "momentum": 0.0, "nesterov": False},
        {"engine": "sparse", "momentum": 0.0, "nesterov": False, "hidden_layers": 2},
        {"engine": "sparse", "precision": "bf16"},
        {"engine": "sparse", "hidden_units": 2048, "percent_on_fc": 0.001, "hidden_layers": 2},
        {"engine": "sparse", "cumul": True},
        {"eval_tasks": "seen", "record_stats": False},
        {"train_ep_inc": 0},
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
def test_other_experiments(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path, keys: dict[str, Any]
) -> None:
    exp = experiment(**{"train_ep": 1, "train_ep_inc": 1, "mb_size": 16} | keys)
    stream = stream_of(exp, train=40, test=20)
    expected = everything(*run(built, exp, stream))
    for at in (2, 5):
        assert everything(*interrupted(built, exp, stream, at, tmp_path)) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"engine": "reference", "context_units": 16, "hidden_layers": 2},
        {"engine": "dense", "context_units": 24, "context_overlap": 0.5, **SLOW},
        {"engine": "dense", "context": "none", **SLOW},
        {"engine": "sparse", "context": "none", **SLOW},
        {"engine": "dense", "context": "none", **SLOW, "old_synapse_rule": "importance"},
        {"engine": "dense", "context": "none", **GROW, "hidden_layers": 1},
        {"engine": "sparse", "context": "none", **GROW, **SLOW},
        {"engine": "sparse", "context_units": 16, **GROW, **SLOW, "context_overlap": 0.5},
        {"engine": "reference", "context": "none", "dynamic": "set", "train_ep": 2},
        {"engine": "sparse", "context_units": 16, "hidden_layers": 2},
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
@pytest.mark.parametrize("at", [2, 4, 7, 10, 13])
def test_with_contexts(
    experiment: Callable,
    stream_of: Callable,
    built: Built,
    tmp_path: Path,
    keys: dict[str, Any],
    at: int,
) -> None:
    """Before the first context, in it, tested in it, in the second, and tested in both."""
    exp = experiment(**FULL | {"train_ep": 1, "context": "prototype", "mb_size": 16} | keys)
    stream = stream_of(exp, train=40, test=20)
    expected = everything(*run(built, exp, stream))
    assert everything(*interrupted(built, exp, stream, at, tmp_path)) == expected


def shapes(value: Any) -> Any:
    """The tree with every array's type and shape in its place, but for what one layer alone has."""
    if isinstance(value, dict):
        return {key: shapes(item) for key, item in value.items() if key != "ratios"}
    return (value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


@pytest.fixture
def on_processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets the processor have fast products in bf16 and int8, or not."""

    def set_to(bf16: bool) -> None:
        for name in ("_is_avx512_bf16_supported", "_is_vnni_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda: bf16)

    return set_to


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "keys",
    [
        {"hidden_layers": 2},
        {"hidden_layers": 2, "weight_sparsity_fc": 0.5, "weight_decay": 0.0},
        {"momentum": 0.0, "nesterov": False},
        {"hidden_units": 2048, "context": "prototype", "context_units": 1024, "boost_strength": 0.0}
        | {"percent_on_fc": 0.0005},
    ],
    ids=lambda keys: ",".join(f"{k}={v}" for k, v in keys.items()),
)
def test_on_another_processor(
    experiment: Callable,
    stream_of: Callable,
    built: Built,
    tmp_path: Path,
    on_processor: Callable,
    keys: dict[str, Any],
    bf16: bool,
) -> None:
    """The same tree and, up to rounding, the same run, whatever is fastest there; and back."""
    few = {"engine": "sparse", "hidden_units": 1024, "percent_on_fc": 0.001, "mb_size": 16}
    exp = experiment(**few | {"train_ep": 1, "train_ep_inc": 1, "dropout": 0.0} | keys)
    stream = stream_of(exp, train=48, test=20)
    at, trees = 5, []
    for kind in (not bf16, bf16):
        on_processor(kind)
        path = tmp_path / f"{kind}.ckpt"
        with pytest.raises(Enough):
            run(built, exp, stream, Killer(at, path))
        trees.append(checkpoint_file.read(path, 2**30)[1])
    assert shapes(trees[0]) == shapes(trees[1])
    weights = [tree["engine"].get("inner", tree["engine"])["model"] for tree in trees]
    assert any((a != weights[1][name]).any() for name, a in weights[0].items())  # two layouts
    expected, _ = run(built, exp, stream)
    record, _ = run(built, exp, stream, tree=trees[0])
    assert record.stats()["loss"] == pytest.approx(expected.stats()["loss"], rel=1e-4)
    np.testing.assert_allclose(record.accs, expected.accs, atol=0.051)
    with pytest.raises(Enough):  # once more, and back to where it was begun
        run(built, exp, stream, Killer(1, tmp_path / "back.ckpt"), tree=trees[0])
    on_processor(not bf16)
    record, _ = run(built, exp, stream, tree=checkpoint_file.read(tmp_path / "back.ckpt", 2**30)[1])
    assert record.stats()["loss"] == pytest.approx(expected.stats()["loss"], rel=1e-4)


@pytest.mark.parametrize("begun", ENGINES)
@pytest.mark.parametrize("gone_on", ENGINES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_on_another_engine(
    experiment: Callable,
    stream_of: Callable,
    built: Built,
    tmp_path: Path,
    begun: str,
    gone_on: str,
    momentum: float,
) -> None:
    """What a checkpoint holds means the same to all of them."""
    keys = FULL | {"dropout": 0.0, "momentum": momentum, "nesterov": momentum > 0, "lr": 0.02}
    exp = experiment(**keys, engine=begun)
    stream = stream_of(exp, train=120, test=40)
    with pytest.raises(Enough):
        run(built, exp, stream, Killer(7, tmp_path / "x.ckpt"))
    _, tree = checkpoint_file.read(tmp_path / "x.ckpt", 2**30)
    expected, _ = run(built, exp, stream)
    record, _ = run(built, experiment(**keys, engine=gone_on), stream, tree=tree)
    assert record.stats()["loss"] == pytest.approx(expected.stats()["loss"], rel=1e-3)


def test_again_and_again(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path
) -> None:
    """A checkpoint every two steps, each in a run that began from the one before."""
    exp = experiment(**FULL, engine="sparse")
    stream = stream_of(exp, train=70, test=40)
    expected = everything(*run(built, exp, stream))
    tree, path, times = None, tmp_path / "x.ckpt", 0
    while True:
        try:
            found = run(built, exp, stream, Killer(2, path), tree)
            break
        except Enough:
            _, tree = checkpoint_file.read(path, 2**30)
            times += 1
    assert times > 8
    assert everything(*found) == expected


def spoiled(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at this place."""
    target = tree
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("place", "task"), -1),
        (("place", "task"), "1"),
        (("place", "order"), np.zeros(3, np.uint8)),
        (("place", "phase"), "resting"),
        (("place", "unit_on"), np.zeros((2, 2), np.int64)),
        (("record", "accs"), np.zeros((9, 9))),
        (("record", "epochs"), np.zeros((1, 3))),
        (("record", "epochs"), None),
        (("record", "elapsed"), "long"),
        (("record", "untrained"), np.zeros(9)),
        (("record", "entropy"), np.zeros((0, 5))),
        (("record", "costs"), [{"name": "hidden"}]),
        (("record", "method_costs"), {"er": {"pictures": 3, "rent": 5}}),
        (("record", "method_costs"), {"er": 5}),
        (("record", "train_seconds"), "long"),
        (("engine", "model"), {}),
        (("engine", "model", "heads.0.bias"), np.zeros(1, np.float32)),
        (("engine", "meter", "losses"), np.zeros((), np.float32)),
        (("engine", "meter", "done"), 5),
        (("engine", "momentum"), {"nothing": np.zeros(2, np.float32)}),
        (("engine",), []),
        (("generators", "cpu"), np.zeros(7, np.uint8)),
        (("generators",), None),
    ],
)
def test_a_tree_that_does_not_fit(
    experiment: Callable,
    stream_of: Callable,
    built: Built,
    tmp_path: Path,
    path: tuple[Any, ...],
    value: Any,
) -> None:
    exp = experiment(engine="reference")
    stream = stream_of(exp, train=70, test=40)
    file = tmp_path / "x.ckpt"
    with pytest.raises(Enough):
        run(built, exp, stream, Killer(4, file))
    _, tree = checkpoint_file.read(file, 2**30)
    engine, methods, _ = built(exp, stream)
    record = empty_record(exp, stream, engine.model)
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.put_back(spoiled(tree, path, value), engine, methods, record)


def test_the_size_limit_leaves_room(
    experiment: Callable, stream_of: Callable, built: Built, tmp_path: Path
) -> None:
    exp = experiment(**FULL, engine="sparse")
    stream = stream_of(exp, train=70, test=40)
    with pytest.raises(Enough):
        run(built, exp, stream, Killer(3, tmp_path / "x.ckpt"))
    engine, *_ = built(exp, stream)
    limit = checkpoint.size_limit(engine) - checkpoint.ROOM
    assert (tmp_path / "x.ckpt").stat().st_size < limit
