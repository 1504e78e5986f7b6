"""Generative replay: what is made, what it is called, and what it counts, against formulas that are
written down another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.stream import Made, among_seen
from exps.config import ConfigError, from_texts
from models.costs import layer_costs
from models.vae import macs
from utils.engines import choose
from utils.engines.batch import Batch, objective
from utils.engines.cuda_graph import CudaGraphEngine
from utils.engines.fused import FusedEngine
from utils.methods.base import Moment
from utils.methods.generator import Generator

DGR: dict[str, Any] = {"methods": ("dgr",), "dgr_units": 32, "dgr_latent": 8, "dropout": 0.0}
SPLIT: dict[str, Any] = {"mnist_mode": "split", "num_batch": 3}
NOW = Moment(task=2, step=0, epoch=8, total=16)
SCENARIOS = {
    "task": {**SPLIT, "scenario": "task"},
    "domain": {**SPLIT, "scenario": "domain"},
    "class": {**SPLIT, "scenario": "class"},
    "class, seen": {**SPLIT, "scenario": "class", "outputs": "seen"},
    "perm": {"num_batch": 3},
}


def trained(keys: dict[str, Any]) -> int:
    """How many outputs of a head the first two of the tasks have trained."""
    if keys.get("outputs") == "seen":
        return 4
    return {"class": 6, "perm": 10}.get(keys.get("scenario", "perm"), 2)


class Third:
    """The third task of three has begun, after a little training on the other two."""

    def __init__(self, experiment: Callable, stream_of: Callable, staged: Callable, **keys: Any):
        exp = experiment(**{**DGR, "num_batch": 3, **keys}, sparsify=False)
        stream = stream_of(exp)
        self.stream = among_seen(stream) if exp.outputs == "seen" else stream
        self.run = staged(exp, self.stream)
        for task in (0, 1):
            self.run.train(task, exp.mb_size, 96)
        self.run.begin(2)
        (self.method,) = self.run.methods
        self.task = self.stream.training[2]
        current = Batch.of(self.task.train.take(slice(32)), self.task.head)
        current = Batch((current.current._replace(outputs=self.task.among),))
        self.batch = self.method.before_step(self.run.engine, current, NOW)
        self.made = self.batch.parts[1].samples

    def scores(self, head: int) -> Tensor:
        """Logits of the copy for what was made."""
        x = self.stream.inputs(self.stream.train, self.made)
        return self.method.network(x, head).detach()


@pytest.fixture
def third(experiment: Callable, stream_of: Callable, staged: Callable) -> Callable[..., Third]:
    return lambda **keys: Third(experiment, stream_of, staged, **keys)


@pytest.mark.parametrize("keys", SCENARIOS.values(), ids=SCENARIOS)
def test_made_pictures_are_labelled_by_the_copy_among_what_was_trained(
    third: Callable[..., Third], keys: dict[str, Any]
) -> None:
    now = third(**keys)
    heads = [0, 1] if keys.get("scenario") == "task" else [0]
    known = trained(keys)
    assert [part.head for part in now.batch.parts[1:]] == heads
    for part in now.batch.parts[1:]:
        assert part.samples is now.made and part.weight == 0 and part.outputs == now.task.among
        targets = now.method.targets[part.head]
        assert torch.equal(targets.argmax(1), now.scores(part.head)[:, :known].argmax(1))
        assert set(targets.unique().tolist()) == {0, 1} and (targets.sum(1) == 1).all()
    assert isinstance(now.made, Made) and len(now.made) == 32
    assert now.made.x.dtype == torch.uint8 and now.made.x.shape[1:] == now.stream.input_shape
    assert torch.equal(now.made.y, now.method.targets[0].argmax(1))


@pytest.mark.parametrize("keys", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize(("labels", "scaled"), [("hard", True), ("soft", True), ("soft", False)])
def test_the_loss_of_the_third_task(
    third: Callable[..., Third], keys: dict[str, Any], labels: str, scaled: bool
) -> None:
    """A third for the current pictures, and two thirds for the mean over the heads before."""
    now = third(**keys, dgr_labels=labels, dgr_scaled=scaled)
    counted, parts = now.task.among, now.batch.parts
    sizes = [now.stream.head_sizes[part.head] for part in parts]
    logits = [torch.randn(part.size, n) for part, n in zip(parts, sizes, strict=True)]
    right = [now.stream.labels(now.stream.train, part.samples) for part in parts]
    found = objective(logits, right, now.batch, [now.method.loss])
    seen = [some[:, :counted] for some in logits]
    current = -seen[0].log_softmax(1)[torch.arange(32), right[0]].mean()
    replayed = []
    for part, some in zip(parts[1:], seen[1:], strict=True):
        scores = now.scores(part.head)
        scores = scores[:, : trained(keys)]
        if labels == "hard":
            replayed.append(-some.log_softmax(1)[torch.arange(32), scores.argmax(1)].mean())
        else:  # loss_fn_kd of van de Ven & Tolias (2018), with T = 2
            told = torch.cat([(scores / 2).softmax(1), torch.zeros(32, some.shape[1])], 1)
            told = told[:, : some.shape[1]]
            apart = -(told * (some / 2).log_softmax(1)).sum(1).mean()
            replayed.append(4 * apart if scaled else apart)
    torch.testing.assert_close(found, current / 3 + 2 / 3 * sum(replayed) / len(replayed))


def test_the_generator_learns_from_both_by_their_shares(
    third: Callable[..., Third], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = third(), []
    generator = now.method.generator
    monkeypatch.setattr(generator, "learn", lambda x, weight: seen.append((x, weight)))
    current = now.task.train.take(slice(20))  # a short mini-batch
    made = now.method.before_step(now.run.engine, Batch.of(current, 0), NOW).parts[1].samples
    ((x, weight),) = seen
    torch.testing.assert_close(weight, torch.tensor([1 / 60] * 20 + [2 / 96] * 32))
    grey = now.stream.train.x[current.rows].flatten(1)[:, now.stream.permutations[2]]
    torch.testing.assert_close(x, torch.cat([grey, made.x.flatten(1)]) / 255)


def test_copies_stay_as_they_were_when_the_task_began(third: Callable[..., Third]) -> None:
    now = third()
    method, model = now.method, now.run.engine.model
    copies = method.generator.frozen.state_dict(), method.network.state_dict()
    before = [{name: value.clone() for name, value in copy.items()} for copy in copies]
    now.run.engine.begin_epoch(2)
    for start in (0, 32):
        now.run.step(now.task.train.take(slice(start, start + 32)))
    learning = method.generator.vae.decoder.state_dict(), model.state_dict()
    for was, copy, other in zip(before, copies, learning, strict=True):
        assert all(torch.equal(value, copy[name]) for name, value in was.items())
        assert any(not torch.equal(value, other[name]) for name, value in was.items())


def test_the_first_task_is_trained_as_without(
    experiment: Callable, stream_of: Callable, staged: Callable
) -> None:
    found = []
    for methods in ((), ("dgr",)):
        exp = experiment(**{**DGR, "dropout": 0.5, "methods": methods})
        run = staged(exp, stream_of(exp))
        run.train(0, 32)
        found.append(run.engine.model.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_generator_makes_what_it_has_seen(
    experiment: Callable, stream_of: Callable, precision: str
) -> None:
    stream = stream_of(experiment(mnist_mode="split"), train=2000)
    digits = stream.train.x[stream.training[0].train.rows].flatten(1) / 255  # zeros and ones
    labels = stream.train.y[stream.training[0].train.rows]
    generator = Generator((784, 100), latent=20, lr=0.003, seed=0, precision=precision)
    weight = torch.full((100,), 0.01)
    for step in range(200):
        start = 100 * step % 2000
        generator.learn(digits[start : start + 100], weight)
    generator.freeze()
    made = generator.make(200)
    assert made.dtype == torch.float32
    whole = Generator((784, 100), latent=20, lr=0.003, seed=0)
    whole.restore(generator.state())
    for one in (generator, whole):
        one.random.manual_seed(1)
    off = (generator.make(200) - whole.make(200)).abs().max()
    assert 1e-4 < off < 0.1 if precision == "bf16" else off == 0
    means = torch.stack([digits[labels == label].mean(0) for label in (0, 1)])
    noise = torch.rand(200, 784, generator=torch.Generator().manual_seed(0)) * made.mean() * 2
    near, far = (torch.cdist(x, means).min(1).values for x in (made, noise))
    assert near.quantile(0.95) < far.min() and near.mean() < 0.7 * far.mean()
    assert 0.2 < (torch.cdist(made, means).argmin(1) == 0).float().mean() < 0.8  # both are made
    assert made.std(0).mean() > 0.5 * digits.std(0).mean()  # and not the same ones again and again


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_it_forgets_less_on_every_engine_which_compute_the_same(
    experiment: Callable, stream_of: Callable, trained: Callable, labels: str
) -> None:
    keys: dict[str, Any] = {**DGR, "boost_strength": 0.0, **SCENARIOS["class"], "num_batch": 2}
    keys |= {"dgr_labels": labels, "dgr_units": 64, "dgr_lr": 0.005, "train_ep": 4}
    exp = experiment(**keys, engine="reference")
    stream = stream_of(exp, train=800)
    plain, _ = trained(replace(exp, methods=()), stream)
    reference, _ = trained(exp, stream)
    assert reference.accs[-1, 0] > plain.accs[-1, 0] + 0.2
    for engine in ("dense", "sparse"):
        record, _ = trained(replace(exp, engine=engine), stream)
        assert record.epochs[-1].loss == pytest.approx(reference.epochs[-1].loss, rel=0.05)
        assert record.accs[-1, 0] > plain.accs[-1, 0] + 0.2


class Repeat:
    """A recorder that keeps the step itself."""

    def warm_up(self, step: Callable[[], None]) -> None:
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


@pytest.mark.parametrize("keys", [{}, SCENARIOS["task"]], ids=["one", "heads"])
def test_recorded_steps_are_the_same_and_find_what_changes_in_its_place(
    experiment: Callable,
    stream_of: Callable,
    staged: Callable,
    keys: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exp = experiment(**DGR, **keys, sparsify=False, engine="dense")
    stream, found = stream_of(exp, train=300), []
    for kind in (FusedEngine, partial(CudaGraphEngine, recorder=Repeat())):
        monkeypatch.setattr(choose, "FusedEngine", kind)
        run = staged(exp, stream)
        place = run.methods[0].targets.data_ptr()
        for task in range(exp.num_batch):
            run.train(task, exp.mb_size)
        assert run.methods[0].targets.data_ptr() == place
        found.append(run.engine.model.state_dict())
    assert run.engine.recorded.replay is not None
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


def test_it_makes_no_more_than_a_task_has(third: Callable[..., Third]) -> None:
    now = third(mb_size=1000, scenario="class", mnist_mode="split")
    assert len(now.made) == max(len(task.train) for task in now.stream.training) == 256


def test_a_generator_that_diverges_is_told_by_the_loss(third: Callable[..., Third]) -> None:
    now = third()
    next(now.method.generator.frozen.parameters()).data.fill_(np.nan)
    batch = now.method.before_step(now.run.engine, Batch.of(now.task.train.take(slice(32)), 0), NOW)
    logits = [torch.zeros(32, 10), torch.zeros(32, 10)]
    assert now.method.loss(logits, [], batch).isnan()


def test_what_it_costs(third: Callable[..., Third]) -> None:
    now = third()
    generator, model = now.method.generator, now.run.engine.model
    parts = generator.vae, generator.frozen, model
    forward = sum(c.macs for c in layer_costs(model, now.stream.input_shape))
    decoding = 8 * 32 + 32 * 784
    assert macs(generator.vae) == decoding + 784 * 32 + 2 * 32 * 8
    costs = now.method.costs(now.run.engine)
    assert costs.parameters == sum(p.numel() for part in parts for p in part.parameters())
    assert costs.macs == 32 * (6 * macs(generator.vae) + decoding + 4 * forward)
    assert costs.pictures == costs.memory == 0


def test_what_it_is_not_for() -> None:
    with pytest.raises(ConfigError, match="choose dgr or context = prototype"):
        from_texts("A", {"methods": "dgr", "context": "prototype"})
    with pytest.raises(ConfigError, match="no earlier task for dgr"):
        from_texts("A", {"methods": "dgr", "cumul": "true"})
    with pytest.raises(ConfigError, match=r"generator would have 20,\d+ million weights"):
        from_texts("A", {"methods": "dgr", "hidden_layers": "2", "dgr_units": "100000"})
    assert from_texts("A", {"methods": "dgr", "model": "cnn"}).dgr_labels == "hard"
