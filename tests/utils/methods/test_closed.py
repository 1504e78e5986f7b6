"""Classifiers in closed form, beside formulas of another kind; and what they must not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import one_hot

from benchmarks import make_stream
from benchmarks.apart import watching
from benchmarks.stream import Pictures, TaskStream
from exps.config import ConfigError, Experiment, from_texts
from exps.messages import Told
from models import ModelError
from utils.engines.autograd import AutogradEngine
from utils.engines.base import Engine
from utils.live.progress import Progress
from utils.methods import closed, moments, ridge
from utils.methods.moments import Moments
from utils.runs import checkpoint
from utils.training import evaluation, loop
from utils.training.record import TRAINING, Place, empty_record

CLASSES: dict[str, Any] = {"scenario": "class", "mnist_mode": "split", "num_batch": 3}
HEADS = ("ncm", "slda", "ridge")
TEXTS = {"mnist_mode": "split", "num_batch": "5", "scenario": "class"}


def some(n: int, units: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.randint(classes, (n,))
    mix = torch.randn(units, units) / units**0.5
    return torch.randn(n, units) @ mix + torch.randn(classes, units)[labels] + 1, labels


def taken_in(features: Tensor, labels: Tensor, classes: int, at_once: int = 7) -> Moments:
    found = Moments.empty(classes, features.shape[1], products=True)
    for f, y in zip(features.split(at_once), labels.split(at_once), strict=True):
        found.add(f, y)
    return found


@given(
    n=st.integers(1, 60),
    units=st.integers(1, 40),
    panel=st.sampled_from([1, 7, 16, 512]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    at_once=st.integers(1, 60),
)
def test_sums_are_as_exact_as_is_said(
    n: int, units: int, panel: int, scale: float, at_once: int
) -> None:
    features, labels = some(n, units, 3)
    features = features * scale + scale
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "PANEL", panel)
        found = taken_in(features, labels, 4, at_once)
        triangle = found.scatter(torch.zeros(1), torch.zeros(1, units, dtype=torch.float64))
    f = features.double()
    bound = at_once * 2.0**-24 * (f.abs().t() @ f.abs())
    assert ((triangle - f.t() @ f).tril().abs() <= bound).all()
    torch.testing.assert_close(found.sums, one_hot(labels, 4).double().t() @ f)
    assert found.counts.tolist() == labels.bincount(minlength=4).tolist()


def test_the_nearest_mean(experiment: Callable, stream_of: Callable, built: Callable) -> None:
    _, [method], _ = built(exp := experiment(**CLASSES, classifier="ncm"), stream_of(exp))
    features, labels = some(200, 12, 5)
    linear = method.solve(taken_in(features, labels, 6), torch.device("cpu"))
    means = torch.stack([features[labels == c].mean(0) for c in range(5)])
    distance = torch.cdist(features, means).square()
    found = features.square().sum(1, keepdim=True) - linear.scores(features)[:, :5]
    torch.testing.assert_close(found, distance, rtol=1e-4, atol=1e-3)
    assert torch.isneginf(linear.scores(features)[:, 5]).all()


@pytest.mark.parametrize("share", [1e-3, 0.3, 1.0])
def test_slda_has_the_likelihoods_of_gaussians(
    experiment: Callable, stream_of: Callable, built: Callable, share: float
) -> None:
    exp = experiment(**CLASSES, classifier="slda", slda_shrinkage=share)
    _, [method], _ = built(exp, stream_of(exp))
    features, labels = some(300, 10, 4)
    linear = method.solve(taken_in(features, labels, 4), torch.device("cpu"))
    f = features.double()
    means = torch.stack([f[labels == c].mean(0) for c in range(4)])
    spread = (f - means[labels]).t() @ (f - means[labels]) / len(f)
    spread = (1 - share) * spread + share * spread.diagonal().mean() * torch.eye(10)
    likely = torch.stack([MultivariateNormal(m, spread).log_prob(f) for m in means], 1)
    found = linear.scores(features).double()
    ratio = (found - found[:, :1]), (likely - likely[:, :1])
    torch.testing.assert_close(*ratio, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("strength", [0.01, 3.0, 1000.0])
@pytest.mark.parametrize("units", [5, 40])
def test_ridge_is_least_squares_with_pictures_that_pull_to_zero(
    strength: float, units: int
) -> None:
    features, labels = some(150, units, 4)
    linear = ridge.fitted(taken_in(features, labels, 4), strength, torch.device("cpu"))
    f, y = features.double(), one_hot(labels, 4).double()
    pull = (strength * f.square().mean()).sqrt() * torch.eye(units)
    whole = torch.cat([f - f.mean(0), pull])
    weight = torch.linalg.lstsq(whole, torch.cat([y - y.mean(0), torch.zeros(units, 4)])).solution
    expected = (f - f.mean(0)) @ weight + y.mean(0)
    torch.testing.assert_close(linear.scores(features).double(), expected, rtol=1e-4, atol=1e-4)


def test_the_strength_is_that_with_the_fewest_errors() -> None:
    features, labels = some(300, 30, 3)
    train, (f, y) = taken_in(features[:60], labels[:60], 4), (features[60:], labels[60:])
    found = ridge.best(train, f, y)
    scores = [ridge.fitted(train, s, f.device).scores(f) for s in ridge.STRENGTHS]
    errors = [int((s.argmax(1) != y).sum()) for s in scores]
    assert errors[ridge.STRENGTHS.index(found)] == min(errors) < max(errors)


def test_strengths_without_a_solution_are_passed_over() -> None:
    """A sum that rounding has made less than nothing, by what strengths up to 100 make up for."""
    features, labels = some(300, 30, 3)
    train = taken_in(features, labels, 4)
    train.panels[0][0, 0] -= train.panels[0][0, 0] + 100 * train.panels[0].diagonal().mean() / 300
    assert ridge.best(train, features, labels) >= 1000
    train.panels[0][0, 0] = -1e12
    with pytest.raises(Told, match="cannot be computed"):
        ridge.best(train, features, labels)


@pytest.mark.parametrize("classifier", ["slda", "ridge"])
def test_features_that_say_nothing_have_a_classifier(
    experiment: Callable, stream_of: Callable, built: Callable, classifier: str
) -> None:
    exp = experiment(**CLASSES, classifier=classifier, ridge_strength=1.0)
    _, [method], _ = built(exp, stream_of(exp))
    dead = taken_in(torch.zeros(6, 3), torch.tensor([0, 0, 1, 1, 1, 1]), 3)
    scores = method.solve(dead, torch.device("cpu")).scores(torch.zeros(1, 3))
    assert scores[0, :2].isfinite().all() and torch.isneginf(scores[0, 2])
    one_each = taken_in(torch.eye(3), torch.arange(3), 3)
    found = method.solve(one_each, torch.device("cpu")).scores(torch.eye(3))
    assert found.argmax(1).tolist() == [0, 1, 2]


def test_what_has_no_inverse_is_told() -> None:
    features = torch.ones(10, 3)
    labels = torch.zeros(10, dtype=torch.int64)
    with pytest.raises(Told, match=r"feature \d is a sum of others.*\n.*larger"):
        moments.solved(
            taken_in(features, labels, 1).scatter(torch.zeros(1), torch.zeros(1, 3).double()),
            0.0,
            torch.zeros(3, 1, dtype=torch.float64),
            "choose a larger one",
        )


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("classifier", HEADS)
def test_it_is_computed_from_all_pictures_of_its_head(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    engine: str,
    scenario: str,
    classifier: str,
) -> None:
    keys = {**CLASSES, "scenario": scenario, "features": "random", "ridge_strength": 1.0}
    exp = experiment(**keys, classifier=classifier, engine=engine)
    stream = stream_of(exp)
    made, [method], _ = built(exp, stream)
    for task in range(3):
        method.begin_task(made, task)
        for part in stream.training[task].train.split(100):
            method.read(made, part, task)
        method.end_task(made, task)
        head = stream.training[task].head
        mine = [t.train for t in stream.training[: task + 1] if t.head == head]
        features = torch.cat([made.features(s, training=True) for s in mine])
        labels = torch.cat([stream.labels(stream.train, s) for s in mine])
        whole = taken_in(features, labels, stream.head_sizes[head], at_once=1000)
        expected = method.solve(whole, made.device)
        test = stream.tasks[task].test
        found, right = method.scores(made, test, head)
        scores = expected.scores(made.features(test))
        torch.testing.assert_close(found, scores, rtol=1e-3, atol=1e-3)
        assert torch.equal(right, stream.labels(stream.test, test))
    assert bool(method.moments) == (scenario != "task")
    held = 3 if scenario == "task" else 1
    assert len(method.linear) == held
    assert f"holds up to {method.costs(made).parameters:,} numbers" in method.plan(made)


def a_run(
    built: Callable, exp: Experiment, stream: TaskStream, stop: int = -1, tree: Any = None
) -> tuple[Any, Any, Any]:
    """The engine and the method of a run, from a checkpoint or to one after so many pictures read
    in the second task."""
    engine, methods, order = built(exp, stream)
    record = empty_record(exp, stream, engine.model)
    place = Place() if tree is None else checkpoint.put_back(tree, engine, methods, record)
    taken = None

    def keep(_: bool) -> None:
        if (place.task, place.phase, place.read) == (1, TRAINING, stop):
            nonlocal taken
            taken = checkpoint.take(engine, methods, record, place)
            raise InterruptedError

    try:
        with Progress(len(stream.training), quiet=True) as progress:
            loop.run_stream(exp, stream, engine, methods, order, record, progress, place, keep)
    except InterruptedError:
        return None, None, taken
    return engine, methods[-1] if methods else None, record


def same(one: Any, other: Any) -> bool:
    """Whether two states of a method are the same to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@pytest.mark.parametrize("classifier", HEADS)
def test_the_order_of_classes_changes_rounding_alone(
    experiment: Callable, built: Callable, classifier: str
) -> None:
    found, orders = [], [(*range(10),), (7, 3, 9, 0, 4, 1, 8, 2, 6, 5)]
    for order in orders:
        keys = {**CLASSES, "num_batch": 5, "features": "random", "ridge_strength": 10.0}
        exp = experiment(**keys, classifier=classifier, class_order=order)
        stream = make_stream(exp)
        tasks = tuple(
            replace(
                t,
                train=t.train.take(t.train.rows % 20 == 0),
                test=t.test.take(t.test.rows % 20 == 0),
            )
            for t in stream.tasks
        )
        _, method, record = a_run(built, exp, replace(stream, training=tasks, tasks=tasks))
        columns = [order.index(label) for label in range(10)]
        right = record.accs[-1] @ [len(t.test) for t in tasks]
        found.append((method.linear[0].weight[:, columns], right))
    (one, first), (two, second) = found
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    assert first == pytest.approx(second, abs=1) and first > 250


PATCHES: dict[str, Any] = {"model": "patches", "filters": 20, "percent_on_conv": 0.1}


@pytest.mark.parametrize("keys", [{}, PATCHES], ids=["mlp", "patches"])
@pytest.mark.parametrize("features", ["trained", "first", "random"])
@pytest.mark.parametrize("classifier", HEADS)
def test_nothing_of_test_pictures_is_seen(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    classifier: str,
    features: str,
    keys: dict[str, Any],
) -> None:
    exp = experiment(**CLASSES, **keys, classifier=classifier, features=features, train_ep=1)
    stream, states = stream_of(exp), []
    marked = stream.test.x.clone()
    marked[:, :, :3, :3] = 255
    for x in (stream.test.x, marked):
        seen = replace(stream, test=Pictures(x, stream.test.y))
        engine, method, _ = a_run(built, exp, seen)
        states.append(method.state() | {"network": engine.state_dict()["model"]})
    assert same(*states)


def test_filters_are_of_training_pictures_of_the_first_task_alone(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(**CLASSES, **PATCHES, classifier="ncm", features="random")
    stream, found = stream_of(exp), []
    for blank in ((), (1, 2), (0,)):
        x = stream.train.x.clone()
        for task in blank:
            x[stream.tasks[task].train.rows] = torch.randint(256, (256, 1, 28, 28)).byte()
        engine = a_run(built, exp, replace(stream, train=Pictures(x, stream.train.y)))[0]
        found.append(engine.model.filters.weight)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert found[0].abs().sum(1).gt(0).all()


def test_ridge_is_chosen_by_training_pictures_of_the_first_task_alone(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(**CLASSES, classifier="ridge", features="random")
    stream, found = stream_of(exp), []
    for blank in (0, 1, 2):
        x = stream.train.x.clone()
        x[stream.tasks[blank].train.rows] = torch.randint(256, (256, 1, 28, 28)).byte()
        seen = replace(stream, train=Pictures(x, stream.train.y))
        found.append(a_run(built, exp, seen)[2].measured["ridge_strength"].item())
    whole = a_run(built, exp, stream)[2].measured["ridge_strength"].item()
    assert found[1] == found[2] == whole != found[0]


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_features_are_trained_as_far_as_is_said(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    def network(features: str, classifier: str = "ncm", later: int = 1) -> tuple[Any, Any]:
        keys = {"train_ep": 1, "train_ep_inc": later, "features": features, "engine": engine}
        exp = experiment(**CLASSES, **keys, classifier=classifier)
        made, _, record = a_run(built, exp, stream_of(exp))
        return made.model.state_dict(), record

    trained, its = network("trained")
    assert same(dict(trained), dict(network("trained", "softmax")[0]))
    assert same(dict(network("first")[0]), dict(network("trained", "softmax", later=0)[0]))
    fresh = built(exp := experiment(**CLASSES, engine=engine), stream_of(exp))[0]
    never, record = network("random")
    assert same(dict(never), dict(fresh.model.state_dict()))
    assert record.steps == 0 < its.steps and not record.epochs
    assert [length.total for length in record.lengths] == [0, 0, 0]
    assert not np.isnan(record.accs).any() and record.train_seconds > 0


@pytest.mark.parametrize("features", ["trained", "first", "random"])
def test_test_pictures_are_looked_at_once_where_features_stay(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    monkeypatch: pytest.MonkeyPatch,
    features: str,
) -> None:
    looks, plain = list[int](), AutogradEngine.features

    def counted(engine: Any, samples: Any, *, training: bool = False) -> Tensor:
        looks.extend([] if training else [len(samples)])
        return plain(engine, samples, training=training)

    monkeypatch.setattr(AutogradEngine, "features", counted)
    exp = experiment(**CLASSES, classifier="ncm", features=features, boost_strength=1.5)
    stream, found, tasks = stream_of(exp), [], [96, 64, 64]
    tests = [t.test.take(slice(count)) for t, count in zip(stream.tasks, tasks, strict=True)]
    cut = [replace(t, test=some) for t, some in zip(stream.tasks, tests, strict=True)]
    stream = replace(stream, tasks=tuple(cut), training=tuple(cut))
    for room in (0, 4 * 64 * 96, 2**30):  # bytes: of no features, the first task's, and all
        monkeypatch.setattr(evaluation, "ROOM", room)
        looks.clear()
        found.append(a_run(built, exp, stream)[2])
        once = 0 if features == "trained" else {0: 0, 2**30: 3}.get(room, 1)
        assert looks == tasks + 2 * tasks[once:], room
    engine = built(exp, stream)[0]
    assert {*dir(Engine)} & {*vars(evaluation.Looked(engine))} == set()  # all else is the engine's
    for other in found[1:]:
        np.testing.assert_array_equal(other.accs, found[0].accs)
        np.testing.assert_array_equal(other.given, found[0].given)


@pytest.mark.parametrize("features", ["trained", "first", "random"])
@pytest.mark.parametrize("classifier", HEADS)
def test_it_goes_on_to_the_bit_between_the_pictures_that_it_reads(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    monkeypatch: pytest.MonkeyPatch,
    classifier: str,
    features: str,
) -> None:
    monkeypatch.setattr(loop, "READ", 100)
    monkeypatch.setattr(moments, "PANEL", 24)
    exp = experiment(**CLASSES, classifier=classifier, features=features, train_ep=1)
    stream = stream_of(exp)
    _, whole, record = a_run(built, exp, stream)
    _, _, tree = a_run(built, exp, stream, stop=200)
    assert tree["place"]["read"] == 200
    torch.manual_seed(1234)
    _, found, again = a_run(built, exp, stream, tree=tree)
    assert same(found.state(), whole.state())
    np.testing.assert_array_equal(again.accs, record.accs)


def test_it_reads_with_the_best_network_where_pictures_are_watched(
    experiment: Callable, stream_of: Callable, built: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "READ", 20)
    keys = {**CLASSES, "num_batch": 2, "classifier": "ncm", "mb_size": 16, "train_ep": 8}
    exp = experiment(**keys, train_ep_inc=8, patience=1, watched=0.25, weight_decay=0.0)
    stream = watching(stream_of(exp, train=80), 0.25, 0, range(2))
    _, whole, record = a_run(built, exp, stream)
    assert (record.best < record.trained).all()
    assert int(whole.moments[0].counts.sum()) == sum(len(t.train) for t in stream.training)
    first, second = map(int, record.best)
    _, short, its = a_run(built, replace(exp, train_ep=first, train_ep_inc=second), stream)
    assert same(whole.state(), short.state()) and np.array_equal(record.accs, its.accs)
    for stop in (20, 40):
        _, _, tree = a_run(built, exp, stream, stop=stop)
        torch.manual_seed(1234)
        _, found, again = a_run(built, exp, stream, tree=tree)
        assert same(found.state(), whole.state())
        np.testing.assert_array_equal(again.accs, record.accs)
        np.testing.assert_array_equal(again.best, record.best)


def test_more_features_than_can_be_held_are_refused(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    keys = {**CLASSES, "hidden_units": closed.MOST + 1, "percent_on_fc": 0.001}
    exp = experiment(**keys, classifier="ridge")
    with pytest.raises(ModelError, match="16,385 features; the limit is 16,384"):
        built(exp, stream_of(exp))
    built(replace(exp, classifier="ncm"), stream_of(exp))
    # Where layers do not say how many there are: 7 × 7 cells of 335 channels.
    many = {"model": "patches", "filters": 335, "patch_grid": 7, "percent_on_conv": 0.1}
    exp = experiment(**CLASSES, **many, classifier="ridge", features="random")
    with pytest.raises(Told, match=r"16,415 features\n.*limit is 16,384"):
        built(exp, stream_of(exp))


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ({"context": "prototype"}, "contexts gives every task other features"),
        ({"methods": "xdg", "scenario": "task"}, "xdg gives every task other features"),
        ({"methods": "icarl"}, "icarl classifies by itself"),
        ({"methods": "gdumb"}, "gdumb begins anew"),
        ({"methods": "ewc", "features": "random"}, "so ewc can do nothing"),
        ({"dynamic": "set", "initial_density_fc": "0.1", "features": "first"}, "so rewire can"),
        ({"methods": "ncm"}, "ncm needs classifier = ncm"),
        ({"classifier": "softmax", "methods": "ncm, slda"}, "slda needs classifier = slda"),
        ({"engine": "stacked"}, "without methods"),
    ],
)
def test_what_makes_no_sense_is_refused(texts: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        from_texts("Test", {**TEXTS, "classifier": "ridge", **texts})


def test_a_method_of_its_name_is_the_classifier() -> None:
    assert from_texts("Test", {**TEXTS, "methods": "slda"}).classifier == "slda"
    assert from_texts("Test", {**TEXTS, "classifier": "ridge"}).all_methods == ("ridge",)
