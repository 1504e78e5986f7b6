"""Which units a context gets, and which context a picture."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import multivariate_normal
from torch import Tensor

from benchmarks.stream import Samples
from exps.config import Experiment
from utils.engines.base import Router
from utils.engines.batch import Batch
from utils.methods.base import Moment
from utils.methods.contexts import Method
from utils.methods.familiar import Entropies, Gaussians, Prototypes, nearest


def never(context: int) -> Tensor:
    """What is found without asking contexts."""
    raise AssertionError(context)


def stream_of_tasks(count: int, among: Sequence[int | None] = ()) -> Any:
    """As far as a rule asks it: pictures have three numbers."""
    training = [SimpleNamespace(among=n) for n in among or [None] * count]
    train = SimpleNamespace(x=torch.zeros(0))
    return SimpleNamespace(training=training, input_shape=(1, 1, 3), train=train)


def contexts(
    tasks: int, width: int, size: int, overlap: float = 0.0, seed: int = 0, x: Tensor | None = None
) -> Method:
    """Contexts of `tasks` tasks with pictures x [n, inputs]."""
    shares = {"context_units": size, "context_overlap": overlap}
    exp = Experiment(name="Test", context="prototype", hidden_units=width, seed=seed, **shares)
    x = torch.zeros(0, 3) if x is None else x

    def inputs(pictures: Any, samples: Samples) -> Tensor:
        return pictures.x[samples.rows].view(-1, 1, 1, 3)

    training, train = [None] * tasks, SimpleNamespace(x=x)
    stream = SimpleNamespace(training=training, input_shape=(1, 1, 3), train=train, inputs=inputs)
    stream.labels = lambda pictures, samples: samples.rows
    return Method(exp, stream)


def test_fresh_units_are_those_that_won_least() -> None:
    some = contexts(2, width=6, size=2)
    some.recruit([torch.tensor([0.5, 0.0, 0.3, 0.1, 0.9, 0.2])])
    some.recruit([torch.tensor([0.5, 0.9, 0.3, 0.1, 0.9, 0.2])])
    assert some.units[0].tolist() == [[1, 3], [2, 5]]


def test_a_share_is_taken_over_from_earlier_contexts() -> None:
    some = contexts(2, width=8, size=4, overlap=0.5)
    for _ in range(2):
        some.recruit([torch.linspace(0, 1, 8)])
    assert some.units[0].tolist() == [[0, 1, 2, 3], [0, 1, 4, 5]]


@given(
    tasks=st.integers(1, 6), size=st.integers(1, 5), overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0])
)
def test_units_are_shared_out_evenly(tasks: int, size: int, overlap: float) -> None:
    """Whatever is asked for, a context has `size` different units; none twice before all once."""
    some = contexts(tasks, width=8, size=size, overlap=overlap, seed=3)
    for _ in range(tasks):
        some.recruit([torch.zeros(8)])
    assert all(len(set(row)) == size for row in some.units[0].tolist())
    used = some.units[0].flatten().bincount(minlength=8)
    if overlap == 0:
        assert used.max() - used.min() <= 1


def test_the_prototype_is_the_mean_of_all_pictures() -> None:
    """As they come by in the first epoch; in a second one they are known."""
    pictures = torch.rand(7, 3)
    some = contexts(2, width=4, size=2, x=pictures)
    assert isinstance(some, Router)
    some.recruit([torch.zeros(4)])
    for step, rows in enumerate((torch.arange(5), torch.arange(5, 7), torch.arange(5))):
        batch = Batch.of(Samples(rows, 0), 0)
        assert some.before_step(None, batch, Moment(0, step, epoch=2, total=4)) is batch
    assert some.route(pictures, never).tolist() == [0] * 7
    torch.testing.assert_close(some.tables[1], pictures.mean(0, keepdim=True))


def test_no_picture_finds_a_task_without_pictures() -> None:
    rule = Prototypes(None, stream_of_tasks(3))
    rule.add(1, torch.rand(5, 3), torch.zeros(5))
    assert rule.find(torch.rand(4, 3), rule.tables(3), never).tolist() == [1] * 4


def test_nearest_is_the_smallest_distance() -> None:
    x, prototypes = torch.randn(50, 9), torch.randn(6, 9)
    assert torch.equal(nearest(x, prototypes), torch.cdist(x, prototypes).argmin(1))


@given(seed=st.integers(0, 1000), known=st.integers(1, 3), domain=st.booleans())
def test_gaussians_are_those_of_scipy(seed: int, known: int, domain: bool) -> None:
    """Three tasks of two classes, of which the last class has no pictures; as they come, in parts.
    In the class scenario every class has an output, in the domain scenario tasks share two."""
    draw = np.random.default_rng(seed)
    outputs = [[0, 1]] * 3 if domain else [[4, 5], [0, 1], [2, 3]]
    targets = torch.full((3, 6), -1)
    for task, found in enumerate(outputs):
        targets[task, 2 * task : 2 * task + 2] = torch.tensor(found)
    stream = SimpleNamespace(
        training=[None] * 3,
        tasks=[None] * 3,
        input_shape=(1, 2, 2),
        targets=targets,
        train=SimpleNamespace(x=torch.zeros(0)),
    )
    rule = Gaussians(SimpleNamespace(context_shrink=0.2), stream)
    x = torch.from_numpy(draw.normal(size=(40, 4))).float()
    logs = []
    for task, found in enumerate(outputs[:known]):
        for output in found[:1] if task == 2 else found:
            mine = draw.normal(draw.normal(size=4), draw.uniform(0.5, 2, 4), (9, 4))
            for part in np.split(mine, 3):
                rule.add(task, torch.from_numpy(part).float(), torch.full((3,), output))
            seen = mine.astype(np.float32).astype(np.float64)
            covariance = np.cov(seen.T, bias=True) + 0.2 * np.eye(4)
            logs.append((multivariate_normal(seen.mean(0), covariance).logpdf(x.numpy()), task))
    likeliest = np.argmax([log for log, _ in logs], 0)
    right = [logs[i][1] for i in likeliest]
    assert rule.find(x, rule.tables(known), never).tolist() == right


def test_the_surest_context_has_the_lowest_entropy() -> None:
    answers = (
        torch.randn(4, 30, 5) * torch.tensor([0.5, 1, 2, 4])[torch.randint(4, (4, 30))][..., None]
    )
    for among in (None, 3):  # of the outputs that count
        rule = Entropies(None, stream_of_tasks(4, among=[None, 1, among, None]))
        found = rule.find(None, rule.tables(3), lambda context: answers[context])
        chances = answers[:3, :, :among].softmax(2).double().numpy()
        assert found.tolist() == scipy_entropy(chances, axis=2).argmin(0).tolist()
