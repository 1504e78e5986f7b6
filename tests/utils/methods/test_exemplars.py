"""A-GEM's projection, GDumb's new networks, iCaRL's herding and nearest means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, cross_entropy, normalize

from benchmarks.stream import Samples, TaskStream
from exps.config import ConfigError, from_texts
from utils.engines.batch import Batch, Part
from utils.methods.base import Moment
from utils.methods.icarl import herded

CLASSES: dict[str, Any] = {"scenario": "class", "mnist_mode": "split", "num_batch": 3}
NOW = Moment(task=1, step=0, epoch=8, total=16)


def gradient(model: Any, stream: TaskStream, samples: Samples) -> torch.Tensor:
    x, labels = stream.inputs(stream.train, samples), stream.labels(stream.train, samples)
    loss = cross_entropy(model(x), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_what_masks_hide_turns_no_gradient(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    """The dense engine computes without masks, and has the gradients of the reference."""
    found = []
    for engine in ("reference", "dense"):
        keys = {"weight_sparsity_fc": 0.3, "dropout": 0.0, "boost_strength": 0.0}
        exp = experiment(**CLASSES, **keys, methods=("agem",), engine=engine)
        stream = stream_of(exp)
        made, _, _ = built(exp, stream)
        made.begin_epoch(40)
        some, other = (stream.tasks[i].train.take(slice(32)) for i in (0, 1))
        for _ in range(3):
            made.step(Batch.of(some, 0))
        made.step(Batch((Part(other, 0), Part(some, 0, guard=True))))
        found.append([p.detach() for p in made.model.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize("opposed", [True, False])
def test_a_step_does_not_raise_the_loss_that_is_guarded(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str, opposed: bool
) -> None:
    """g - (gᵀr / rᵀr) r where gᵀr < 0, else g."""
    exp = experiment(**CLASSES, methods=("agem",), sparsify=False, dropout=0.0, engine=engine)
    stream = stream_of(exp)
    made, [method], _ = built(exp, stream)
    made.begin_epoch(40)
    some, other = (stream.tasks[i].train.take(slice(32)) for i in (0, 1))
    for _ in range(3):
        made.step(Batch.of(some, 0))
    guard = some if opposed else other
    g, r = (gradient(made.model, stream, samples) for samples in (other, guard))
    assert (g @ r < 0) == opposed
    made.step(Batch((Part(other, 0), Part(guard, 0, guard=True))))
    mine = torch.cat([p.grad.flatten() for p in made.model.parameters()])
    right = g - (g @ r) / (r @ r) * r if opposed else g
    torch.testing.assert_close(mine, right, rtol=1e-3, atol=1e-6)
    assert mine @ r > -1e-5
    method.memory.offer(some)
    batch = method.before_step(made, Batch.of(other, 0), NOW)
    assert [part.guard for part in batch.parts] == [False, True]


def test_a_guard_too_small_to_be_squared_turns_nothing(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(**CLASSES, methods=("agem",), engine="reference")
    made, _, _ = built(exp, stream_of(exp))
    for p in made.parameters:
        p.grad = torch.ones_like(p)
    made._project([torch.full_like(p, -1e-24) for p in made.parameters])
    assert all(p.grad.eq(1).all() for p in made.parameters)


@pytest.mark.parametrize("soft", ["blurry", "random"])
def test_without_boundaries_all_that_came_is_guarded(
    experiment: Callable, stream_of: Callable, built: Callable, soft: str
) -> None:
    exp = experiment(**CLASSES, methods=("agem",), stream=soft, agem_batch=9, buffer_size=9)
    stream = stream_of(exp)
    made, [method], _ = built(exp, stream)
    came = stream.training[0].train.take(slice(9))
    method.memory.offer(came)
    for task in (0, 2):
        batch = method.before_step(made, Batch.of(came, 0), NOW._replace(task=task))
        assert [part.guard for part in batch.parts] == [False, True]
        guarded = batch.parts[1].samples
        pairs = {*zip(guarded.rows.tolist(), guarded.view.tolist(), strict=True)}
        assert pairs == {*zip(came.rows.tolist(), came.view.tolist(), strict=True)}


def test_herding_takes_what_brings_the_mean_nearest() -> None:
    torch.manual_seed(0)
    features = normalize(torch.randn(30, 5) + 1)
    mean, chosen = features.mean(0), list[int]()
    for n in range(1, 8):
        best = min(
            (i for i in range(30) if i not in chosen),
            key=lambda i: float((mean - features[[*chosen, i]].sum(0) / n).norm()),
        )
        chosen.append(best)
    assert herded(features, 7).tolist() == chosen
    assert sorted(herded(features, 50).tolist()) == list(range(30))


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_icarl_classifies_by_the_nearest_mean_of_its_exemplars(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    exp = experiment(**CLASSES, outputs="seen", methods=("icarl",), buffer_size=40, engine=engine)
    stream = stream_of(exp)
    made, [method], _ = built(exp, stream)
    made.begin_epoch(2)
    for task in (0, 1):
        method.begin_task(made, task)
        method.end_task(made, task)
    memory, means = method.memory, []
    for label in range(4):
        mine = (stream.train.y[memory.rows] == label).nonzero().flatten()
        assert len(mine) == 10
        exemplars = memory.samples(mine, torch.device("cpu"))
        features = normalize(made.features(exemplars, training=True))
        means.append(normalize(features.mean(0), dim=0))
    test = stream.tasks[1].test
    scores, labels = method.scores(made, test, 0)
    features = normalize(made.features(test))
    nearest = (features.unsqueeze(1) - torch.stack(means)).norm(dim=2).argmin(1)
    assert torch.equal(scores.argmax(1), nearest)
    assert torch.equal(labels, stream.labels(stream.test, test))
    assert torch.isneginf(scores[:, 4:]).all()
    method.means[2] = 0  # of a class without exemplars
    without, _ = method.scores(made, test, 0)
    assert torch.isneginf(without[:, 2]).all() and torch.equal(without[:, 3], scores[:, 3])


@pytest.mark.parametrize("outputs", ["seen", "all"])
def test_icarl_learns_old_outputs_from_what_was_said_and_new_ones_from_labels(
    experiment: Callable, stream_of: Callable, built: Callable, outputs: str
) -> None:
    keys = {"methods": ("icarl",), "buffer_size": 200, "icarl_temperature": 3.0}
    exp = experiment(**CLASSES, **keys, outputs=outputs)
    stream = stream_of(exp, train=60)
    engine, [method], _ = built(exp, stream)
    engine.begin_epoch(2)
    method.begin_task(engine, 0)
    method.end_task(engine, 0)
    method.begin_task(engine, 1)
    task = stream.training[1]
    batch = Batch((Part(task.train.take(slice(32)), 0, outputs=task.among),))
    mixed = method.before_step(engine, batch, NOW)
    samples = mixed.current.samples
    assert mixed.current.weight == 0 and set(samples.view.tolist()) == {0, 1}
    labels = stream.labels(stream.train, samples)
    logits = torch.randn(32, 6)
    said, _ = engine.logits(samples, 0, training=True)
    counted = 4 if outputs == "seen" else 6
    wanted = torch.zeros(32, counted)
    wanted[torch.arange(32), labels] = 1
    wanted[:, :2] = (said[:, :2] / 3).sigmoid()
    right = binary_cross_entropy(logits[:, :counted].sigmoid(), wanted, reduction="sum") / 32
    torch.testing.assert_close(method.loss([logits], [labels], mixed), right)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_gdumb_begins_anew_and_learns_from_its_memory_alone(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    exp = experiment(**CLASSES, methods=("gdumb",), buffer_size=40, engine=engine, momentum=0.9)
    run = staged(exp, stream_of(exp))
    first = {name: p.clone() for name, p in run.engine.model.state_dict().items()}
    run.train(0, 32)
    run.begin(1)
    memory = run.named("gdumb").memory
    assert memory.kinds.unique().numel() == 4 and len(memory) == 40
    now = run.engine.model.state_dict()
    weights = [name for name, p in now.items() if p.dim() == 2 and "mask" not in name]
    assert weights
    for name in weights:
        fresh, old = now[name], first[name]
        assert not torch.equal(fresh, old)
        assert fresh.std() == pytest.approx(float(old.std()), rel=0.2)  # drawn like the first
    state = run.engine.state_dict()
    assert all(not m.any() for n, m in state["momentum"].items() if state["mix"][n][0] == 1)
    batch = run.named("gdumb").before_step(
        run.engine, Batch.of(run.stream.tasks[1].train.take(slice(32)), 0), NOW
    )
    kept = set(memory.rows.tolist())
    assert all(set(part.samples.rows.tolist()) <= kept for part in batch.parts)


@pytest.mark.parametrize("name", ["er", "agem", "gdumb", "icarl"])
def test_every_class_needs_a_place(name: str) -> None:
    texts = {"mnist_mode": "split", "num_batch": "5", "scenario": "class", "methods": name}
    texts |= {"buffer": "class"} if name in ("er", "agem") else {}
    assert from_texts("Test", {**texts, "buffer_size": "10"}).buffer_size == 10
    with pytest.raises(ConfigError, match=r"9 pictures leave none for some of the 10 classes"):
        from_texts("Test", {**texts, "buffer_size": "9"})


@pytest.mark.parametrize("name", ["agem", "der", "derpp", "dgr", "er", "lwf"])
def test_icarl_is_with_nothing_that_looks_at_pictures(name: str) -> None:
    texts = {"mnist_mode": "split", "num_batch": "5", "scenario": "class"}
    with pytest.raises(ConfigError, match=f"choose icarl or {name}"):
        from_texts("Test", {**texts, "methods": f"icarl, {name}"})
    assert from_texts("Test", {**texts, "methods": "icarl, ewc"}).methods == ("ewc", "icarl")


def test_icarl_is_for_classes_and_gdumb_is_alone() -> None:
    with pytest.raises(ConfigError, match="choose scenario = class"):
        from_texts("Test", {"methods": "icarl"})
    with pytest.raises(ConfigError, match="nothing is left of ewc; choose one"):
        from_texts("Test", {"methods": "gdumb, ewc", "engine": "dense"})
    with pytest.raises(ConfigError, match=r"agem needs the gradient.*choose engine = auto"):
        from_texts("Test", {"methods": "agem", "engine": "sparse"})
