"""What a step trains on: a mini-batch made of parts, and the loss over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.stream import Samples, Task
from exps.messages import Told


class Part(NamedTuple):
    """Training pictures that one head classifies; weight: what their mean cross-entropy counts, 0
    for pictures whose logits are asked for alone, by a method's loss.

    outputs: of the head's, the first so many count; None: all. guard: they are not trained on, but
    the step is kept from raising their loss; it takes an engine with Need.PROJECTION.
    """

    samples: Samples
    head: int
    weight: float = 1.0
    outputs: int | None = None
    guard: bool = False

    @classmethod
    def of(cls, task: Task) -> Part:
        """All that a task trains on."""
        return cls(task.train, task.head, outputs=task.among)

    @property
    def size(self) -> int:
        """How many pictures."""
        return len(self.samples)


class Batch(NamedTuple):
    """The first part is of the task that is trained: what is measured is measured on it. Methods
    add others, such as pictures of earlier tasks.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, samples: Samples, head: int) -> Batch:
        """One part alone."""
        return cls((Part(samples, head),))

    @property
    def current(self) -> Part:
        """The part of the task that is trained."""
        return self.parts[0]

    @property
    def pictures(self) -> list[Samples]:
        """Those of all parts: what several parts share, to be seen by several heads, once."""
        return list({id(part.samples): part.samples for part in self.parts}.values())

    def of_parts(self, features: Tensor) -> list[Tensor]:
        """What was computed for `pictures`, one after the other, part by part."""
        pictures = self.pictures
        pieces = features.split([len(samples) for samples in pictures])
        found = dict(zip(map(id, pictures), pieces, strict=True))
        return [found[id(part.samples)] for part in self.parts]


# Of logits [n, classes] and the right outputs int64 [n], both part by part: a scalar, or nothing.
Loss = Callable[[list[Tensor], list[Tensor], Batch], Tensor | None]


def objective(
    logits: list[Tensor],
    labels: list[Tensor],
    batch: Batch,
    losses: Sequence[Loss],
    smoothing: float = 0.0,
) -> Tensor:
    """The mean cross-entropy of every part by its weight, and what methods add."""
    total = classification(logits, labels, batch, smoothing)
    for extra in losses:
        more = extra(logits, labels, batch)
        if more is not None:
            if not isinstance(more, Tensor) or more.dim():
                by = getattr(getattr(extra, "__self__", None), "name", "a method")
                raise Told(f"methods = {by}: its loss is no scalar tensor, but {more!r:.60}")
            total = more if total is None else total + more
    return logits[0].sum() * 0 if total is None else total


def classification(
    logits: list[Tensor],
    labels: list[Tensor],
    batch: Batch,
    smoothing: float = 0.0,
    *,
    guard: bool = False,
) -> Tensor | None:
    """The mean cross-entropy of every part by its weight; guard: of the parts that guard.
    smoothing: the share of a label that all outputs that count have alike."""
    total: Tensor | None = None
    for some, right, part in zip(logits, labels, batch.parts, strict=True):
        if part.weight and part.guard == guard:
            loss = cross_entropy(some[:, : part.outputs], right, label_smoothing=smoothing)
            loss = loss if part.weight == 1 else part.weight * loss
            total = loss if total is None else total + loss
    return total


def joined(tensors: list[Tensor]) -> Tensor:
    """The parts one after the other; a single one as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
