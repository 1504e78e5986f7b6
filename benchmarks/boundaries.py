"""Streams without sharp boundaries: what is trained in the time of a task is not all of that task.

Every training picture keeps its task's view, and is used in one task. Tests stay those of the
tasks. Pictures are in the order of the data set, as they are in tasks with sharp boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.seeding import generator
from benchmarks.stream import Samples, TaskStream

if TYPE_CHECKING:
    from exps.config import Experiment

PURPOSE = "boundaries"


def bounded(stream: TaskStream, exp: Experiment) -> TaskStream:
    """The stream with the boundaries that exp.stream says; a single task has none."""
    if exp.stream == "tasks" or len(stream.training) == 1:
        return stream
    soft = exp.stream == "blurry"
    return blurry(stream, exp.blur, exp.seed) if soft else mixed(stream, exp.seed)


def blurry(stream: TaskStream, share: float, seed: int) -> TaskStream:
    """Neighbours exchange pictures, of each half the share of the smaller one: so a task between
    two others of its size has that share of foreign ones, and as many pictures as before."""
    source = generator(seed, PURPOSE)
    drawn = [
        task.train.take(torch.randperm(len(task.train), generator=source))
        for task in stream.training
    ]
    parts: list[list[Samples]] = [[] for _ in drawn]
    given = 0  # to the task before
    for i, (mine, next_) in enumerate(zip(drawn, [*drawn[1:], None], strict=True)):
        count = 0 if next_ is None else int(share / 2 * min(len(mine), len(next_)))
        parts[i].append(mine.take(slice(given, len(mine) - count)))
        if next_ is not None:
            parts[i + 1].append(mine.take(slice(len(mine) - count, None)))
            parts[i].append(next_.take(slice(count)))
        given = count
    return _trained_on(stream, list(map(Samples.joined, parts)))


def mixed(stream: TaskStream, seed: int) -> TaskStream:
    """Pictures of all tasks in every one, as many: drawn from one distribution (i.i.d.)."""
    whole = Samples.joined([task.train for task in stream.training])
    order = torch.randperm(len(whole), generator=generator(seed, PURPOSE))
    return _trained_on(stream, list(map(whole.take, order.tensor_split(len(stream.training)))))


def _trained_on(stream: TaskStream, samples: Sequence[Samples]) -> TaskStream:
    trained = zip(stream.training, samples, strict=True)
    return replace(stream, training=tuple(replace(t, train=_in_order(s)) for t, s in trained))


def _in_order(samples: Samples) -> Samples:
    """By row, and by view where a picture is there in several."""
    views: Tensor = torch.as_tensor(samples.view)
    return samples.take((samples.rows * (views.max() + 1) + views).argsort())
