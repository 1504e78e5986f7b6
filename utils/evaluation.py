"""Accuracy on every task, by the scenario's own rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Task
from utils.engine.base import Engine

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


def accuracies(
    engine: Engine, tasks: Sequence[Task], seen: Callable[[int], None] = lambda pictures: None
) -> np.ndarray:
    """Fraction of the test pictures that are classified correctly, float64 [tasks].

    Every picture counts once; `seen` is told how many were done. Synchronises once, at the end.
    """
    right = []
    for task in tasks:
        batch = BATCH[engine.device.type]
        count = torch.zeros((), dtype=torch.int64, device=task.test.rows.device)
        for start in range(0, len(task.test), batch):
            samples = task.test.take(slice(start, start + batch))
            logits, labels = engine.logits(samples, task.head)
            hits = restrict(logits, task.outputs).argmax(1) == labels
            count = count.to(hits.device) + hits.sum()
            seen(len(samples))
        right.append(count)
    sizes = np.array([len(task.test) for task in tasks])
    return torch.stack(right).cpu().numpy() / sizes
