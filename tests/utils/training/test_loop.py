"""A run: what is trained on, in which order, what is kept of it, and that it can be repeated."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from math import log2
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.stream import Samples
from exps.messages import Told
from models import make_model
from utils.engines.batch import Batch
from utils.engines.meter import EpochRecord
from utils.live.progress import Progress
from utils.methods.base import Costs, Method
from utils.results.files import save_results
from utils.training.examiner import DivergedError
from utils.training.loop import run_stream
from utils.training.record import RunRecord, empty_record

SPLIT = {"mnist_mode": "split", "num_batch": 3, "scenario": "task"}
ENGINES = ("reference", "sparse", "dense")


class Diary:
    """Stands in for an engine: notes what it is given, trains nothing and is always right."""

    device = torch.device("cpu")

    def __init__(self, exp: Any, stream: Any, bad: tuple[int, int] | None = None) -> None:
        self.model = self.active = make_model(exp, stream.input_shape, stream.head_sizes)
        self.stream, self.units = stream, self.model.units
        self.epochs: list[list[Samples]] = []
        self.heads: list[int] = []
        self.tested: list[tuple[int, int]] = []  # after how many epochs, which head
        self.bad = bad  # the epoch and step with a loss that is not finite

    def begin_task(self) -> None:
        pass

    def begin_epoch(self, steps: int) -> None:
        self.epochs.append([])
        self.announced = steps

    def step(self, batch: Batch, losses: Any = ()) -> list[Tensor]:
        [part] = batch.parts
        self.epochs[-1].append(part.samples)
        self.heads.append(part.head)
        return [torch.zeros(len(part), self.stream.head_sizes[part.head])]

    def end_epoch(self) -> EpochRecord:
        epoch = len(self.epochs) - 1
        assert len(self.epochs[-1]) == self.announced
        bad_step = self.bad[1] if self.bad is not None and epoch == self.bad[0] else None
        unit_on = np.full(self.model.units, epoch, np.int64)
        return EpochRecord(10.0 + epoch, 0.5, 4.0, 0.25, unit_on, np.zeros(1), bad_step)

    def found(self) -> Tensor | None:
        return None

    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        self.tested.append((len(self.epochs), head))
        labels = self.stream.labels(self.stream.test, samples)
        return one_hot(labels, self.stream.head_sizes[head]).float(), labels


def binary(p: float) -> float:
    """The entropy in bits of something that happens with probability p."""
    return -p * log2(p) - (1 - p) * log2(1 - p)


def rows(epoch: list[Samples]) -> list[int]:
    return torch.cat([samples.rows for samples in epoch]).tolist()


@pytest.fixture
def noted(stream_of: Callable) -> Callable[..., tuple[Diary, RunRecord]]:
    """The diary and the record of a run in which nothing is trained."""

    def run(exp: Any, train: int = 70, **bad: Any) -> tuple[Diary, RunRecord]:
        stream = stream_of(exp, train=train, test=20)
        engine = Diary(exp, stream, **bad)
        record = empty_record(exp, stream, engine.model)
        order = torch.Generator().manual_seed(exp.seed)
        with Progress(1, quiet=True) as progress:
            run_stream(exp, stream, engine, (), order, record, progress)
        return engine, record

    return run


def test_the_first_task_has_its_own_number_of_epochs(experiment: Callable, noted: Callable) -> None:
    engine, record = noted(experiment(**SPLIT, train_ep=3, train_ep_inc=1))
    assert engine.heads == [0] * 9 + [1] * 3 + [2] * 3  # 3 mini-batches an epoch
    assert [done for done, _ in engine.tested] == [0] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert [head for _, head in engine.tested] == [0, 1, 2] * 4
    assert record.stats()["loss"].tolist() == [10, 11, 12, 13, 14]
    assert record.stats()["on_idxs"][:, 0].tolist() == [0 + 1 + 2, 3, 4]


def test_later_tasks_need_not_be_trained_on(experiment: Callable, noted: Callable) -> None:
    engine, record = noted(experiment(train_ep=1, train_ep_inc=0))
    assert len(list(filter(None, engine.epochs))) == 1
    assert not np.isnan(record.accs).any()


def test_every_picture_once_an_epoch_in_a_fresh_order(
    experiment: Callable, noted: Callable, stream_of: Callable
) -> None:
    exp = experiment(train_ep=3, train_ep_inc=2, mb_size=32)
    engine, _ = noted(exp)
    orders = [rows(epoch) for epoch in engine.epochs]
    everything = sorted(stream_of(exp, train=70).tasks[0].train.rows.tolist())
    assert all(sorted(order) == everything for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    sizes = [[len(samples) for samples in epoch] for epoch in engine.epochs]
    assert sizes == [[32, 32, 6]] * 5  # the last one is short
    views = [{samples.view for samples in epoch} for epoch in engine.epochs]
    assert views == [{0}, {0}, {0}, {1}, {1}]


def test_a_mini_batch_may_hold_a_whole_task(experiment: Callable, noted: Callable) -> None:
    engine, _ = noted(experiment(mb_size=1000, train_ep=1))
    assert [len(samples) for samples in engine.epochs[0]] == [70]


def test_the_order_comes_from_the_seed(experiment: Callable, noted: Callable) -> None:
    def order(seed: int) -> list[int]:
        return rows(noted(experiment(seed=seed, train_ep=1))[0].epochs[0])

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_cumul_trains_once_on_the_union(
    experiment: Callable, noted: Callable, stream_of: Callable
) -> None:
    exp = experiment(**SPLIT, cumul=True, train_ep=2, train_ep_inc=7)
    engine, record = noted(exp)
    assert len(engine.epochs) == 2
    (union,) = stream_of(exp, train=70).training
    assert len(union.train) == 210
    for epoch in engine.epochs:
        assert sorted(rows(epoch)) == sorted(union.train.rows.tolist())
        views = torch.cat([samples.view for samples in epoch])
        assert views.bincount().tolist() == [70, 70, 70]
    assert record.accs.shape == (1, 3)
    assert engine.tested == [(2, 0)] * 3
    assert record.stats()["on_idxs"].shape == (1, exp.hidden_units)


def test_only_tasks_seen_are_tested_if_so_wished(experiment: Callable, noted: Callable) -> None:
    nan = float("nan")
    _, record = noted(experiment(num_batch=3, eval_tasks="seen"))
    np.testing.assert_array_equal(record.accs, [[1, nan, nan], [1, 1, nan], [1, 1, 1]])
    _, record = noted(experiment(num_batch=3, eval_tasks="all"))
    assert record.accs.tolist() == [[1, 1, 1]] * 3
    _, record = noted(experiment(num_batch=3, eval_tasks="seen", cumul=True))
    assert record.accs.tolist() == [[1, 1, 1]]


def test_a_loss_that_is_not_finite_ends_the_run(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(num_batch=3, train_ep=2, train_ep_inc=3, lr=0.25)
    stream = stream_of(exp, train=70)
    engine = Diary(exp, stream, bad=(4, 1))  # the third epoch of the second task
    record = empty_record(exp, stream, engine.model)
    with (
        Progress(3, quiet=True) as progress,
        pytest.raises(DivergedError, match=r"(?s)^task 2/3, epoch 3/3, step 2: .*lr = 0\.25"),
    ):
        run_stream(exp, stream, engine, (), torch.Generator(), record, progress)
    assert record.accs[0].tolist() == [1, 1, 1]
    assert np.isnan(record.accs[1:]).all()
    assert record.stats()["loss"].tolist() == [10, 11, 12, 13]
    assert record.elapsed > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("keys", "steps", "told"),
    [
        ({"lr": 25.0, "train_ep": 50}, 8, r", epoch \d+/50, step \d: .* \(lr = 25\)"),
        # In the last step: it shows in the tests alone.
        (
            {"lr": 1e30, "train_ep": 1, "weight_decay": 0.0, "eval_tasks": "seen"},
            1,
            r".*testing.* not finite.*lr = 1e\+30",
        ),
    ],
)
def test_a_real_divergence(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    engine: str,
    keys: dict[str, Any],
    steps: int,
    told: str,
) -> None:
    exp = experiment(engine=engine, **keys)
    stream = stream_of(exp, train=steps * exp.mb_size)
    trainer, methods, order = built(exp, stream)
    record = empty_record(exp, stream, trainer.model)
    with (
        Progress(2, quiet=True) as progress,
        pytest.raises(DivergedError, match=f"(?s)^task 1/2{told}"),
    ):
        run_stream(exp, stream, trainer, methods, order, record, progress)
    assert np.isfinite([epoch.loss for epoch in record.epochs]).all()
    assert np.isnan(record.accs).all()


def test_an_interruption_keeps_what_is_done(experiment: Callable, stream_of: Callable) -> None:
    class Interrupted(Diary):
        def step(self, batch: Batch, losses: Any = ()) -> list[Tensor]:
            logits = super().step(batch, losses)
            if len(self.epochs) == 4:
                raise KeyboardInterrupt
            return logits

    exp = experiment(num_batch=2, train_ep=2, train_ep_inc=2)
    stream = stream_of(exp, train=70)
    engine = Interrupted(exp, stream)
    record = empty_record(exp, stream, engine.model)
    with Progress(2, quiet=True) as progress, pytest.raises(KeyboardInterrupt):
        run_stream(exp, stream, engine, (), torch.Generator(), record, progress)
    stats: Any = record.stats()
    assert np.isfinite(stats["accs"]).tolist() == [[True, True], [False, False]]
    assert stats["loss"].tolist() == [10, 11, 12]
    assert stats["elapsed"] > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str
) -> None:
    def run(seed: int) -> tuple[RunRecord, dict[str, Tensor]]:
        exp = experiment(engine=engine, hidden_layers=2, weight_sparsity_fc=0.5, seed=seed)
        record, trainer = trained(exp, stream_of(exp))
        return record, trainer.model.state_dict()

    (first, weights), (second, same), (third, other) = run(3), run(3), run(4)
    for key, value in first.stats().items():
        if key not in ("elapsed", "train_seconds"):
            np.testing.assert_array_equal(value, second.stats()[key])
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    for key in ("accs", "loss", "on_idxs"):
        assert not np.array_equal(first.stats()[key], third.stats()[key])
    assert not any(torch.equal(weights[name], other[name]) for name in weights if "weight" in name)


def test_a_run_learns(experiment: Callable, stream_of: Callable, trained: Callable) -> None:
    exp = experiment(hidden_units=256, percent_on_fc=0.05, dropout=0.2, train_ep=4)
    record, _ = trained(exp, stream_of(exp, train=1500, test=300))
    assert record.accs[0, 0] > 0.75
    assert record.accs[0, 1] < 0.3  # another permutation, not trained on yet
    assert record.accs[1, 1] > 0.6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_changes_only_while_its_own_task_is_trained(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    """Bit for bit, with momentum and weight decay on, over whole runs of a task each."""
    exp = experiment(**SPLIT, engine=engine, weight_decay=0.01, train_ep=2)
    stream = stream_of(exp)
    trainer, methods, order = built(exp, stream)
    heads = [head.state_dict() for head in trainer.model.heads]
    assert len(heads) == 3
    for i, task in enumerate(stream.tasks):
        before = [{name: p.clone() for name, p in head.items()} for head in heads]
        only = replace(stream, training=(task,))
        with Progress(1, quiet=True) as progress:
            record = empty_record(exp, only, trainer.model)
            run_stream(exp, only, trainer, methods, order, record, progress)
        for j, head in enumerate(heads):
            for name, p in head.items():
                assert torch.equal(p, before[j][name]) == (i != j)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_boost_strength_decays_every_epoch(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str
) -> None:
    exp = experiment(
        engine=engine, boost_strength=1.6, boost_strength_factor=0.5, train_ep=2, train_ep_inc=1
    )
    _, trainer = trained(exp, stream_of(exp, train=64))
    boost = trainer.model.blocks[0].activation.boost_strength
    assert boost.item() == pytest.approx(0.2)  # three epochs


@pytest.mark.parametrize("engine", ENGINES)
def test_how_often_units_were_on_agrees_with_the_percentage(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str
) -> None:
    """sum(on_idxs) / (pictures · units) is the mean of perc_on_avg: a law of equal batches."""
    exp = experiment(engine=engine, train_ep=3, train_ep_inc=1)
    record, _ = trained(exp, stream_of(exp, train=8 * exp.mb_size))
    stats: Any = record.stats()
    assert stats["on_idxs"].shape == (2, exp.hidden_units)
    for task, epochs in enumerate((slice(0, 3), slice(3, 4))):
        pictures = 8 * exp.mb_size * len(stats["loss"][epochs])
        share = stats["on_idxs"][task].sum() / (pictures * exp.hidden_units)
        assert share == pytest.approx(stats["perc_on_avg"][epochs].mean() / 100)
        # 8 of 64 units win, and dropout leaves half of them.
        assert share == pytest.approx(0.125 / 2, rel=0.1)


def test_what_a_result_holds(
    experiment: Callable, stream_of: Callable, trained: Callable, tmp_path: Any
) -> None:
    """The statistics that the issue lists, in types that any notebook can load."""
    exp = experiment(train_ep=2, train_ep_inc=1, hidden_layers=2, weight_sparsity_fc=0.25)
    record, _ = trained(exp, stream_of(exp))
    stats: Any = record.stats()
    assert list(stats) == [
        "accs",
        "untrained",
        "perc_on_avg",
        "perc_on_std",
        "on_idxs",
        "loss",
        "train_acc",
        "k_winner_layers",
        "entropy",
        "max_entropy",
        "weight_density",
        "costs",
        "steps",
        "train_seconds",
        "elapsed",
    ]
    assert stats["accs"].shape == (2, 2)
    assert ((stats["accs"] >= 0) & (stats["accs"] <= 1)).all()
    assert ((stats["untrained"] > 0) & (stats["untrained"] < 0.5)).all()
    assert stats["k_winner_layers"] == ["hidden.0.activation", "hidden.1.activation"]
    assert stats["entropy"].shape == (3, 2)
    assert ((stats["entropy"] > 0) & (stats["entropy"] <= stats["max_entropy"])).all()
    assert stats["max_entropy"].tolist() == pytest.approx([64 * binary(8 / 64)] * 2)
    assert [cost["name"] for cost in stats["costs"]] == list(stats["weight_density"])
    for key in ("perc_on_avg", "perc_on_std", "loss", "train_acc"):
        assert stats[key].shape == (3,)
    assert stats["on_idxs"].shape == (2, 64)
    assert stats["on_idxs"].dtype == np.int64
    assert stats["on_idxs"].any(axis=1).all()
    assert stats["weight_density"] == {
        "hidden.0.linear": 196 / 784,
        "hidden.1.linear": 0.25,
        "heads.0": 1.0,
    }
    assert 0 < stats["train_seconds"] < stats["elapsed"]
    assert stats["steps"] == 3 * 8
    save_results(tmp_path, {}, stats, run="x")


class Rented(Method):
    """Costs a picture more with every task, and nothing in the first."""

    tasks = -1

    def end_task(self, engine: Any, task: int) -> None:
        self.tasks += 1

    def costs(self, engine: Any) -> Costs:
        return Costs(pictures=self.tasks)


def test_what_methods_cost_is_kept_as_it_was_after_the_last_task(
    experiment: Callable, stream_of: Callable
) -> None:
    exp = experiment(num_batch=3, train_ep=1, train_ep_inc=1)
    stream = stream_of(exp, train=70)
    engine, after = Diary(exp, stream), []
    record = empty_record(exp, stream, engine.model)

    def keep(done: bool) -> None:
        if done:
            after.append(record.stats().get("method_costs"))

    parts = exp, stream, engine, [Rented(exp, stream)], torch.Generator(), record
    with Progress(3, quiet=True) as progress:
        run_stream(*parts, progress, keep=keep)
    one = {"parameters": 0, "pictures": 1, "memory": 0, "macs": 0}
    assert after == [None, {"test_loop": one}]
    assert record.stats()["method_costs"] == {"test_loop": one | {"pictures": 2}}
    assert record.steps == 3 * 3


@pytest.mark.parametrize("found", [None, (1, 2, 3, 4), Costs(pictures=-1), Costs(macs=0.5)])  # type: ignore[arg-type]
def test_costs_that_are_none_are_told(found: Any) -> None:
    record = RunRecord(np.ones((1, 1)), np.ones(1), [], [])
    with pytest.raises(Told, match=r"^methods = si: costs has to return Costs, of whole numbers"):
        record.add_costs("si", found)


def test_costs_of_numpy_become_plain() -> None:
    record = RunRecord(np.ones((1, 1)), np.ones(1), [], [])
    record.add_costs("si", Costs(macs=np.int64(3)))  # type: ignore[arg-type]
    assert type(record.method_costs["si"]["macs"]) is int


def test_what_a_run_keeps_of_an_epoch_does_not_grow_with_the_units(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    def kept(epochs: int) -> int:
        exp = experiment(train_ep=epochs, num_batch=1, hidden_units=4096, percent_on_fc=0.002)
        return len(pickle.dumps(trained(exp, stream_of(exp, train=32, test=10))[0]))

    assert kept(9) - kept(1) < 8 * 1000  # a byte a unit and epoch would be four times that


def test_what_a_result_holds_without_statistics(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """What was not watched is not a number, rather than zero."""
    exp = experiment(record_stats=False, train_ep=1)
    stats: Any = trained(exp, stream_of(exp))[0].stats()
    assert np.isnan(stats["perc_on_avg"]).all()
    assert np.isnan(stats["perc_on_std"]).all()
    assert stats["on_idxs"].shape == (2, 0)
    assert np.isfinite(stats["loss"]).all()


def test_cumul_scores_by_the_scenarios_own_rule(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """Where the task is known only its classes are chosen from, so accuracy can but be higher."""
    settings = {"mnist_mode": "split", "num_batch": 5, "cumul": True, "train_ep": 1}
    accs = {}
    for scenario in ("task", "class"):
        exp = experiment(**settings, scenario=scenario)
        record, _ = trained(exp, stream_of(exp, train=160))
        accs[scenario] = record.accs[0]
    assert (accs["task"] >= accs["class"]).all()
    assert accs["task"].mean() > 0.7
    assert accs["class"].mean() < 0.7
