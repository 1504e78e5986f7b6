"""What a step trains on: a mini-batch made of parts, and the loss over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.stream import Samples
from exps.messages import Told


class Part(NamedTuple):
    """Training pictures that one head classifies; weight: what their mean cross-entropy counts."""

    samples: Samples
    head: int
    weight: float = 1.0

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
    def sizes(self) -> list[int]:
        """How many pictures each part has."""
        return [part.size for part in self.parts]


# Of logits [n, classes] and the right outputs int64 [n], both part by part: a scalar, or nothing.
Loss = Callable[[list[Tensor], list[Tensor], Batch], Tensor | None]


def objective(
    logits: list[Tensor], labels: list[Tensor], batch: Batch, losses: Sequence[Loss]
) -> Tensor:
    """The mean cross-entropy of every part by its weight, and what methods add."""
    total: Tensor | None = None
    for some, right, part in zip(logits, labels, batch.parts, strict=True):
        loss = cross_entropy(some, right)
        loss = loss if part.weight == 1 else part.weight * loss
        total = loss if total is None else total + loss
    for extra in losses:
        more = extra(logits, labels, batch)
        if more is not None:
            if not isinstance(more, Tensor) or more.dim():
                by = getattr(getattr(extra, "__self__", None), "name", "a method")
                raise Told(f"methods = {by}: its loss is no scalar tensor, but {more!r:.60}")
            total = more if total is None else total + more
    assert total is not None, "a batch has a part"
    return total


def joined(tensors: list[Tensor]) -> Tensor:
    """The parts one after the other; a single one as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
