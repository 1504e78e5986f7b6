"""Parts of a mini-batch on every engine: pictures shared by heads, made pictures, fewer outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.stream import Made
from utils.engines.batch import Batch, Part

PLAIN = {"dropout": 0.0, "boost_strength": 0.0, "momentum": 0.0, "nesterov": False}
PLAIN |= {"weight_decay": 0.0, "lr": 0.5}
ENGINES = pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])


@ENGINES
def test_only_the_outputs_that_count_are_trained(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    exp = experiment(**PLAIN, mnist_mode="split", scenario="class", num_batch=5, engine=engine)
    stream = stream_of(exp)
    made, _, _ = built(exp, stream)
    made.begin_epoch(1)
    before = made.model.heads[0].weight.detach().clone()
    samples = stream.tasks[1].train.take(slice(32))
    [logits] = made.step(Batch((Part(samples, 0, outputs=4),)))
    right = cross_entropy(logits[:, :4], stream.labels(stream.train, samples))
    assert made.end_epoch().loss == pytest.approx(float(right), rel=1e-5)
    moved = (made.model.heads[0].weight != before).any(1)
    assert moved.tolist() == [True] * 4 + [False] * 6


@ENGINES
def test_heads_that_see_the_same_pictures_share_their_features(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    """A step is that of the same pictures given twice."""
    exp = experiment(**PLAIN, mnist_mode="split", scenario="task", num_batch=2, engine=engine)
    stream = stream_of(exp)
    ends: list[Any] = []
    for shared in (True, False):
        made, _, _ = built(exp, stream)
        made.begin_epoch(1)
        samples = stream.tasks[0].train.take(slice(32))
        again = samples if shared else stream.tasks[0].train.take(slice(32))
        batch = Batch((Part(samples, 0, 0.25), Part(again, 1, 0.75)))
        assert len(batch.pictures) == (1 if shared else 2)
        logits = made.step(batch)
        ends.append([*logits, *(p.detach() for p in made.model.parameters())])
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@ENGINES
def test_made_pictures_are_seen_as_they_are(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    """Those of a permutation, made anew, are those of the data set; and one loss is for both."""
    exp = experiment(**PLAIN, engine=engine)
    stream = stream_of(exp)
    made, _, _ = built(exp, stream)
    made.begin_epoch(1)
    samples = stream.tasks[1].train.take(slice(32))
    x = (stream.inputs(stream.train, samples) * 255).round().to(torch.uint8)
    copies = Made.of(x, stream.labels(stream.train, samples))
    torch.testing.assert_close(
        stream.inputs(stream.train, copies), stream.inputs(stream.train, samples)
    )
    one, two = made.step(Batch((Part(samples, 0, 0.5), Part(copies.take(slice(None)), 0, 0.5))))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    right = cross_entropy(one, copies.y)
    assert made.end_epoch().loss == pytest.approx(float(right), rel=1e-4)
