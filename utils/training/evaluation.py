"""Accuracy on every task, by the scenario's own rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.stream import Samples, Task, TaskStream
from utils.engines.base import Ahead, Engine
from utils.methods.base import Scores
from utils.training.recorded import Answers

# Pictures at a time, by device: enough for its full rate, few enough for a CNN to fit into memory.
BATCH = {"cpu": 500, "cuda": 2000, "mps": 500}
ROOM = 2**30  # bytes of features of test pictures that are kept


def restrict(logits: Tensor, outputs: tuple[int, ...] | None) -> Tensor:
    """Logits [n, classes] with all but `outputs` set to minus infinity; unchanged for None.

    Minus infinity, since zero, which the 2019 code used, beats the negative logits that are
    allowed.
    """
    if outputs is None:
        return logits
    masked = torch.full_like(logits, float("-inf"))
    masked[:, list(outputs)] = logits[:, list(outputs)]
    return masked


def some_of(stream: TaskStream, count: int) -> tuple[Task, ...]:
    """The same tasks, each tested on so many of its test pictures, which are the same for every
    seed: of every class its share. 0: on all."""

    def cut(task: Task) -> Task:
        samples = task.test
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
        kinds = stream.test.y[samples.rows].cpu()[order]
        place = torch.empty(len(samples), dtype=torch.float64)  # within its class, 0 to 1
        for kind in kinds.unique():
            mine = (kinds == kind).nonzero().flatten()
            place[mine] = (torch.arange(len(mine)) + 0.5).double() / len(mine)
        few = order[place.argsort(stable=True)[:count]].sort().values
        return replace(task, test=samples.take(few.to(samples.rows.device)))

    return tuple(map(cut, stream.tasks)) if count else stream.tasks


def _at_once(engine: Engine, samples: Samples) -> Iterator[Samples]:
    """As many at a time as the engine tests."""
    batch = engine.test_batch if isinstance(engine, Ahead) else BATCH[engine.device.type]
    return samples.split(batch)


def answers(
    engine: Engine, task: Task, scores: Scores | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Of the test pictures of a task, some at a time: logits [n, classes]; the right outputs int64
    [n]; and the contexts that were found, int64 [n], or None. scores: what a method has in place of
    the engine's logits."""
    for samples in _at_once(engine, task.test):
        if scores is None:
            logits, labels = engine.logits(samples, task.head)
        else:
            logits, labels = scores(engine, samples, task.head)
        yield logits, labels, engine.found()


class Looked:
    """An engine whose features stay the same: those of a batch of test pictures are computed once,
    as long as there is ROOM for them. All else is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.kept, self.room = engine, dict[tuple[object, ...], Tensor](), ROOM

    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """As of the engine."""
        if training:
            return self.engine.features(samples, training=True)
        which = vars(samples).values()
        key = tuple(t.cpu().numpy().tobytes() if isinstance(t, Tensor) else t for t in which)
        if key not in self.kept:
            features = self.engine.features(samples)
            if features.nbytes > self.room:
                return features
            self.room -= features.nbytes
            self.kept[key] = features
        return self.kept[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def watched_accuracy(engine: Engine, task: Task) -> float:
    """Which part of the pictures that a task watches is classified correctly, as it is trained:
    among the outputs that count then."""
    assert task.watched is not None
    right = torch.zeros((), dtype=torch.int64, device=engine.device)
    for samples in _at_once(engine, task.watched):
        logits, labels = engine.logits(samples, task.head, training=True)
        right += (logits[:, : task.among].argmax(1) == labels).sum()
    return int(right) / len(task.watched)


class Tested(NamedTuple):
    """Of the test pictures of a task, which part is classified correctly; the same where the
    prediction is chosen among the outputs of the task alone; and of which the context was found.
    NaN for what is not asked, and without contexts; an accuracy where a logit is none, or infinite.
    """

    accuracy: float
    given_task: float
    in_context: float


def accuracy(
    engine: Engine,
    task: Task,
    number: int,
    seen: Callable[[int], None] = lambda pictures: None,
    scores: Scores | None = None,
    own: Tensor | None = None,
    into: Answers | None = None,
) -> Tested:
    """How the test pictures of a task, the stream's `number`, are classified.

    Every picture counts once; `seen` is told how many were done. scores: what a method has in place
    of the engine's logits; own: the outputs of the task, int64 [classes], where these are to be
    chosen among as well; into: is given the answers to the pictures of every batch, confidence
    being the softmax of the output chosen. Synchronises once, at the end.
    """
    right = torch.zeros(4, dtype=torch.int64, device=engine.device)
    contexts = False
    for logits, labels, found in answers(engine, task, scores):
        among = restrict(logits, task.outputs)
        predicted = among.argmax(1)
        right[0] += (predicted == labels).sum()
        right[3] += (~(logits < torch.inf)).any()  # minus infinity: out of the question
        if own is not None:
            right[1] += (own[logits[:, own].argmax(1)] == labels).sum()
        if into is not None:
            into.append((predicted, among.softmax(1).amax(1), labels))
        if found is not None:
            contexts = True
            right[2] += (found == number).sum()
        seen(len(labels))
    *counts, unknown = right.tolist()
    shares = zip(counts, (not unknown, own is not None, contexts), strict=True)
    return Tested(*(n / len(task.test) if asked else math.nan for n, asked in shares))
