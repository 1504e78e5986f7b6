"""Accuracy on every task, by the scenario's own rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.stream import Task, TaskStream
from utils.engines.base import Ahead, Engine
from utils.methods.base import Scores

# Pictures at a time, by device: enough for its full rate, few enough for a CNN to fit into memory.
BATCH = {"cpu": 500, "cuda": 2000, "mps": 500}


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


def answers(
    engine: Engine, task: Task, scores: Scores | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Of the test pictures of a task, some at a time: logits [n, classes], minus infinity where an
    output is none of the task's; the right outputs int64 [n]; and the contexts that were found,
    int64 [n], or None. scores: what a method has in place of the engine's logits."""
    batch = engine.test_batch if isinstance(engine, Ahead) else BATCH[engine.device.type]
    for samples in task.test.split(batch):
        if scores is None:
            logits, labels = engine.logits(samples, task.head)
        else:
            logits, labels = scores(engine, samples, task.head)
        yield restrict(logits, task.outputs), labels, engine.found()


def accuracy(
    engine: Engine,
    task: Task,
    number: int,
    seen: Callable[[int], None] = lambda pictures: None,
    scores: Scores | None = None,
) -> tuple[float, float]:
    """Fraction of the test pictures of a task, the stream's `number`, that are classified
    correctly, and of those whose context was found (NaN without contexts).

    Every picture counts once; `seen` is told how many were done. scores: what a method has in place
    of the engine's logits. Synchronises once, at the end.
    """
    count = len(task.test)
    right = torch.zeros(2, dtype=torch.int64, device=engine.device)
    contexts = False
    for logits, labels, found in answers(engine, task, scores):
        right[0] += (logits.argmax(1) == labels).sum()
        if found is not None:
            contexts = True
            right[1] += (found == number).sum()
        seen(len(labels))
    classified, in_context = right.tolist()
    return classified / count, in_context / count if contexts else math.nan
