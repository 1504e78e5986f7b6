"""Which engine an experiment gets, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from exps.config import KEYS
from exps.kinds import Choice
from models import make_model
from utils.engines.autograd import AutogradEngine
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.engines.choose import EngineError, make_engine, not_recorded
from utils.engines.fused import FusedEngine
from utils.engines.winners.engine import SparseEngine
from utils.methods.make import make_methods
from utils.system.runtime import pick_device

FEW = {"hidden_units": 256, "percent_on_fc": 1 / 64}
SPLIT = {"mnist_mode": "split", "num_batch": 3, "scenario": "task"}
ENGINES = ("reference", "sparse", "dense")
CNN = {"cnn": True, "percent_on_conv": 0.1, "hidden_units": 16}


@pytest.fixture
def made(experiment: Callable, stream_of: Callable) -> Callable[..., Engine]:
    """The engine of an experiment with these changes, on the CPU."""

    def make(**changes: Any) -> Engine:
        exp = experiment(**changes)
        stream = stream_of(exp)
        torch.manual_seed(0)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        methods = make_methods(exp, stream)
        return make_engine(exp, model, stream, torch.device("cpu"), methods)

    return make


def train(engine: Engine, task: Any, size: int = 32) -> Any:
    starts = range(0, len(task.train), size)
    engine.begin_epoch(len(starts))
    for start in starts:
        engine.step(Batch.of(task.train.take(slice(start, start + size)), task.head))
    return engine.end_epoch()


def test_the_engines_are_those_that_can_be_chosen() -> None:
    kind = KEYS["engine"].kind
    assert isinstance(kind, Choice)
    assert set(kind.names) == {"auto", "stacked", *ENGINES}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (FEW, SparseEngine),
        ({**FEW, "hidden_layers": 2, "weight_sparsity_fc": 0.5, **SPLIT}, SparseEngine),
        ({**FEW, "percent_on_fc": 0.25}, FusedEngine),  # so many winners that it does not pay
        ({**FEW, "sparsify": False}, FusedEngine),
        ({**FEW, "lr": 1.0, "weight_decay": 0.5, "nesterov": False}, FusedEngine),
        (CNN, FusedEngine),
        ({**FEW, "engine": "reference"}, AutogradEngine),
        ({**FEW, "engine": "dense"}, FusedEngine),
        ({"percent_on_fc": 0.5, "engine": "sparse"}, SparseEngine),
    ],
)
def test_which_engine_it_is(
    made: Callable[..., Engine], changes: dict[str, Any], expected: type
) -> None:
    engine = made(**changes)
    assert type(engine) is expected
    assert bool(engine.why_not_faster) == (expected is not SparseEngine)


@pytest.mark.parametrize("wanted", ["auto", "cuda", "cuda:0"])
def test_a_gpu_records_its_steps_however_it_is_named(
    experiment: Callable, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """All of it but the card: the device as it is picked, and pictures that say they are on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    on_the_card = SimpleNamespace(device=torch.device("cuda:0"))  # what a tensor there says
    stream = SimpleNamespace(train=SimpleNamespace(x=on_the_card))
    device = pick_device(wanted)
    assert not not_recorded(experiment(), stream, device)
    stream.train.x = torch.zeros(0)
    assert "they are on cpu" in not_recorded(experiment(), stream, device)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({**FEW, "percent_on_fc": 0.25}, "one unit in 16 wins"),
        ({**FEW, "sparsify": False}, "own k-winners"),
        ({**FEW, "engine": "dense"}, "engine = dense"),
        ({**FEW, "engine": "reference", "context": "prototype", "context_units": 64}, "reference"),
    ],
)
def test_why_no_faster_engine(made: Callable[..., Engine], changes: Any, why: str) -> None:
    assert why in made(**changes).why_not_faster


@pytest.mark.parametrize(
    "changes", [{"sparsify": False}, CNN, {"lr": 1.0, "weight_decay": 0.5, "nesterov": False}]
)
def test_the_sparse_engine_says_what_it_cannot_do(
    made: Callable[..., Engine], changes: dict[str, Any]
) -> None:
    with pytest.raises(EngineError, match=r"(?s)^\[Test\] engine = sparse .*choose engine = auto$"):
        made(**changes, engine="sparse")


def test_every_section_of_2019_that_has_few_winners_gets_the_sparse_engine(
    experiment: Callable,
) -> None:
    for units, share in ((4000, 0.001), (4000, 0.008)):
        exp = experiment(hidden_units=units, percent_on_fc=share)
        assert SparseEngine.pays(make_model(exp, (1, 28, 28), [10]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("boost", [0.0, 1.0])
def test_half_precision_has_as_many_winners_and_nearly_the_same_loss(
    made: Callable[..., Engine],
    experiment: Callable,
    stream_of: Callable,
    engine: str,
    boost: float,
) -> None:
    """Values rounded to bf16 may tie, but so few do that there are hardly more winners."""
    settings = {**FEW, "hidden_layers": 2, "dropout": 0.0, "boost_strength": boost}
    task = stream_of(experiment(**settings)).tasks[0]
    full, half = (made(**settings, engine=engine, precision=p) for p in ("fp32", "bf16"))
    for _ in range(3):
        one, two = train(full, task), train(half, task)
        assert one.active == 100 / 64
        assert two.active == pytest.approx(one.active, rel=0.03)
        assert two.loss == pytest.approx(one.loss, rel=0.1)
    for name, value in half.model.state_dict().items():
        assert value.dtype != torch.bfloat16, name
    logits, _ = half.logits(task.test, 0)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [{"hidden_layers": 2, "weight_sparsity_fc": 0.5}, SPLIT])
def test_a_run_can_be_continued_exactly(
    made: Callable[..., Engine],
    experiment: Callable,
    stream_of: Callable,
    engine: str,
    changes: dict[str, Any],
) -> None:
    settings = {**FEW, **changes, "engine": engine, "boost_strength_factor": 0.5}
    stream = stream_of(experiment(**settings))
    first, second = made(**settings), made(**settings)
    for task in stream.tasks:
        train(first, task)
    steps = [stream.tasks[1].train.take(slice(i, i + 32)) for i in range(0, 256, 32)]
    first.begin_epoch(8)
    for samples in steps[:3]:
        first.step(Batch.of(samples, stream.tasks[1].head))
    state = {k: _copied(v) for k, v in first.state_dict().items()}
    second.begin_epoch(8)
    second.load_state_dict(state)
    ends = []
    for trainer in (first, second):
        torch.manual_seed(1)  # dropout
        for samples in steps[3:]:
            trainer.step(Batch.of(samples, stream.tasks[1].head))
        ends.append((trainer.end_epoch(), trainer.model.state_dict()))
    (one, weights), (two, same) = ends
    assert (one.loss, one.accuracy, one.active) == (two.loss, two.accuracy, two.active)
    np.testing.assert_array_equal(one.unit_on, two.unit_on)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize("context", ["none", "prototype"])
def test_in_bf16_exactly_k_units_win(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, context: str
) -> None:
    """Values tie often there."""
    parts = {"context": context, "context_units": 200} if context != "none" else {}
    exp = experiment(
        engine=engine,
        precision="bf16",
        hidden_units=400,
        hidden_layers=2,
        percent_on_fc=0.01,
        boost_strength=0.0,
        dropout=0.0,
        train_ep=1,
        train_ep_inc=1,
        **parts,
    )
    record, _ = trained(exp, stream_of(exp))
    assert record.stats()["perc_on_avg"] == pytest.approx([1.0, 1.0], abs=1e-5)
