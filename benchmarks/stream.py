"""Task streams: which pictures are trained on, one task after the other, and how each is scored.

Pictures are held once, as uint8 or float32. A task is a set of row numbers and a *view* (where each
pixel comes from, which output unit stands for which label) over those shared arrays, so a hundred
permutations of MNIST need no more memory than one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pictures:
    """x: uint8 or float32 [n, channels, height, width]; y: int64 [n], the labels of the data set.

    Features, which are no pictures, are float32 [n, 1, 1, features].
    """

    x: Tensor
    y: Tensor

    def through(self, send: Callable[[Tensor], Tensor]) -> Pictures:
        """The same pictures with `send` applied to their tensors."""
        return Pictures(send(self.x), send(self.y))


@dataclass(frozen=True)
class Samples:
    """Pictures by row number, seen through one view (an int) or a view each (int64 [n])."""

    rows: Tensor  # int64 [n]
    view: int | Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """All of them, one after the other, with a view each."""
        views = [torch.as_tensor(some.view, device=some.rows.device) for some in parts]
        each = [view.expand_as(some.rows) for view, some in zip(views, parts, strict=True)]
        return Samples(torch.cat([some.rows for some in parts]), torch.cat(each))

    def take(self, which: Tensor | slice) -> Samples:
        """The samples at these positions, in this order."""
        view = self.view if isinstance(self.view, int) else self.view[which]
        return Samples(self.rows[which], view)

    def split(self, size: int) -> Iterator[Samples]:
        """The samples, at most so many at a time."""
        return (self.take(slice(at, at + size)) for at in range(0, len(self), size))

    def through(self, send: Callable[[Tensor], Tensor]) -> Samples:
        """The same samples with `send` applied to their tensors."""
        view = self.view if isinstance(self.view, int) else send(self.view)
        return Samples(send(self.rows), view)

    def fill(self, samples: Samples) -> None:
        """Become these, as many and of the same kind, in the memory that there is."""
        for name, mine in vars(self).items():
            if isinstance(mine, Tensor):
                mine.copy_(getattr(samples, name))


@dataclass(frozen=True)
class Made(Samples):
    """Pictures that are in no data set, as they are seen, whatever the view: x as in `Pictures`, y
    int64 [n], the output units that are right.
    """

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Made:
        """Numbered one after the other."""
        return cls(torch.arange(len(x), device=x.device), 0, x, y)

    def take(self, which: Tensor | slice) -> Made:
        """The pictures at these positions, in this order."""
        return Made(self.rows[which], self.view, self.x[which], self.y[which])

    def through(self, send: Callable[[Tensor], Tensor]) -> Made:
        """The same pictures with `send` applied to their tensors."""
        return Made(send(self.rows), self.view, send(self.x), send(self.y))


class Blends(NamedTuple):
    """Pixels that are each a sum of four, those of every channel alike: the places of the four in
    the picture, int64 [views, 4, height * width], and by how much each counts, float32 likewise.
    """

    places: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Task:
    """One task: what it trains on, what it is tested on, and the rule by which it is scored.

    `head` is the classifier that it uses. `outputs` are the output units among which a prediction
    is chosen when the task is known at test time; None means all of the head's. `among`: while it
    is trained, and in the tests after it, only the first so many of the head's outputs count, those
    of the classes seen so far; None means all. `watched` are training pictures that it does not
    train on, by which it is decided when it has been trained enough; None where they decide
    nothing.
    """

    name: str
    train: Samples
    test: Samples
    head: int = 0
    outputs: tuple[int, ...] | None = None
    among: int | None = None
    watched: Samples | None = None

    def through(self, send: Callable[[Tensor], Tensor]) -> Task:
        """The same task with `send` applied to its tensors."""
        train, test = self.train.through(send), self.test.through(send)
        watched = None if self.watched is None else self.watched.through(send)
        return replace(self, train=train, test=test, watched=watched)


@dataclass(frozen=True)
class TaskStream:
    """The tasks trained one after the other (`training`) and those tested after each (`tasks`).

    permutations: int64 [views, pixels] or None; blends: what pixels are made of in each view, in
    place of permutations, or None; targets: int64 [views, labels], the output unit that stands for
    a label in a view, -1 where the label does not occur in it; mean, std: float32 [channels], of
    uint8 pictures on the scale of 0 to 1. `scenario` is domain, task or class (van de Ven & Tolias,
    2019, "Three scenarios for continual learning"). `source` says where the pictures came from,
    `warnings` what is to be known of them, `data` is their digest (`benchmarks.digest`),
    `class_names` what its labels stand for, in their order, where that is known; units: of features
    that are held in units of their own, float64 [2, features]: what was taken off those of the data
    set, and what they were divided by.
    """

    train: Pictures
    test: Pictures
    training: tuple[Task, ...]
    tasks: tuple[Task, ...]
    head_sizes: tuple[int, ...]
    targets: Tensor
    mean: Tensor
    std: Tensor
    scenario: str
    source: str
    permutations: Tensor | None = None
    blends: Blends | None = None
    warnings: tuple[str, ...] = ()
    data: str = ""
    class_names: tuple[str, ...] = ()
    units: Tensor | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    @property
    def grain(self) -> float:
        """What every input is a whole multiple of, 0 to 255 times; 0 if there is no such number."""
        grey = self.train.x.dtype == torch.uint8 and self.blends is None
        plain = grey and not self.mean.any() and bool((self.std == self.std[0]).all())
        return 1 / (255 * float(self.std[0])) if plain else 0.0

    @property
    def scale(self) -> Tensor:
        """What pixels are multiplied by, float32 [channels]."""
        return 1 / ((255 if self.train.x.dtype == torch.uint8 else 1) * self.std)

    @property
    def shift(self) -> Tensor:
        """What is taken off then, float32 [channels]."""
        return self.mean / self.std

    def inputs(self, pictures: Pictures, samples: Samples, move: Move | None = None) -> Tensor:
        """Normalised pictures, float32 [n, channels, height, width], permuted by their view; move:
        what is done before to those of a data set, in their shape, black being 0."""
        if isinstance(samples, Made):
            x = samples.x.float().clone()
        else:
            x = pictures.x[samples.rows].float()
            x = self._seen(x if move is None else move(x), samples.view)
        return x.mul_(self.scale.view(-1, 1, 1)).sub_(self.shift.view(-1, 1, 1))

    def _seen(self, x: Tensor, view: int | Tensor) -> Tensor:
        """Pictures with the pixels as their view, or a view each, has them."""
        if self.blends is not None:
            return _blended(x, *(part[view] for part in self.blends))
        if self.permutations is None:
            return x
        flat, order = x.flatten(1), self.permutations[view]
        flat = flat.index_select(1, order) if isinstance(view, int) else flat.gather(1, order)
        return flat.view_as(x)

    def labels(self, pictures: Pictures, samples: Samples) -> Tensor:
        """The output units that are right, int64 [n]."""
        if isinstance(samples, Made):
            return samples.y
        return self.targets[samples.view, pictures.y[samples.rows]]

    def to(self, device: torch.device) -> TaskStream:
        """The same stream with all its tensors on a device; what tasks share stays shared."""
        send = cache(lambda tensor: tensor.to(device))
        moved = None if self.permutations is None else self.permutations.to(device)
        blends = None if self.blends is None else Blends(*map(send, self.blends))
        return replace(
            self,
            train=self.train.through(send),
            test=self.test.through(send),  # with `validation` these are the same
            training=tuple(task.through(send) for task in self.training),
            tasks=tuple(task.through(send) for task in self.tasks),
            targets=self.targets.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
            permutations=moved,
            blends=blends,
        )


def build_stream(
    train: Pictures,
    test: Pictures,
    views: list[tuple[int, ...]],
    *,
    scenario: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    source: str,
    names: list[str],
    permutations: Tensor | None = None,
    blends: Blends | None = None,
    class_names: Sequence[str] = (),
) -> TaskStream:
    """A stream with a task per view; `views` holds each task's labels in the order of its outputs.

    domain: one head, the outputs are a label's place within its task. task: the same outputs, but
    a head per task. class: one head with outputs of their own for every class of every task.
    """
    sizes = [len(labels) for labels in views]
    offset = [sum(sizes[:i]) if scenario == "class" else 0 for i in range(len(views))]
    known = 1 + max(int(train.y.max()), int(test.y.max()), *(max(v) for v in views))
    targets = torch.full((len(views), known), -1)
    # Tasks with the same labels share their row numbers.
    rows = {v: (_rows_with(train.y, v), _rows_with(test.y, v)) for v in set(views)}
    tasks = []
    for i, labels in enumerate(views):
        targets[i, list(labels)] = torch.arange(len(labels)) + offset[i]
        trained, tested = (Samples(found, i) for found in rows[labels])
        tasks.append(Task(names[i], trained, tested, head=i if scenario == "task" else 0))
    heads = {"task": sizes, "domain": [max(sizes)], "class": [sum(sizes)]}[scenario]
    return TaskStream(
        train,
        test,
        training=tuple(tasks),
        tasks=tuple(tasks),
        head_sizes=tuple(heads),
        targets=targets,
        mean=torch.tensor(mean),
        std=torch.tensor(std),
        scenario=scenario,
        source=source,
        permutations=permutations,
        blends=blends,
        class_names=tuple(class_names),
    )


def joint(stream: TaskStream) -> TaskStream:
    """The cumulative twin: trained once on the union of all tasks, scored task by task.

    A head per task becomes one head over all classes; since the task is known when it is scored,
    the prediction is then chosen among the task's own outputs.
    """
    tasks, targets, heads = list(stream.tasks), stream.targets, stream.head_sizes
    if stream.scenario == "task":
        starts = [sum(heads[:i]) for i in range(len(heads))]
        offset = torch.tensor(starts, device=targets.device).unsqueeze(1)
        targets = torch.where(targets >= 0, targets + offset, targets)
        tasks = [
            replace(t, head=0, outputs=tuple(range(start, start + size)))
            for t, start, size in zip(tasks, starts, heads, strict=True)
        ]
        heads = (sum(heads),)
    rows = torch.cat([t.train.rows for t in tasks])
    view = torch.cat([torch.full_like(t.train.rows, i) for i, t in enumerate(tasks)])
    union = Task("all tasks", Samples(rows, view), Samples(rows[:0], view[:0]))
    return replace(stream, training=(union,), tasks=tuple(tasks), targets=targets, head_sizes=heads)


def among_seen(stream: TaskStream) -> TaskStream:
    """The same tasks, each with the outputs of the classes alone that were trained up to it."""
    most = [*itertools.accumulate((outputs_of(stream, task) for task in stream.training), max)]

    def limited(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        return tuple(replace(t, among=n) for t, n in zip(tasks, most, strict=True))

    return replace(stream, training=limited(stream.training), tasks=limited(stream.tasks))


def outputs_of(stream: TaskStream, task: Task) -> int:
    """How many outputs, from the first on, a task's training pictures are of the classes of."""
    views = torch.as_tensor(task.train.view, device=stream.targets.device).unique()
    return int(stream.targets[views].max()) + 1


def _blended(x: Tensor, places: Tensor, shares: Tensor) -> Tensor:
    """x [n, channels, height, width] with each pixel the sum of those at `places` times `shares`,
    [4, pixels] or, for a view each, [n, 4, pixels]."""
    flat, found = x.flatten(2), torch.zeros(())
    for corner in range(4):
        at, share = places[..., corner, :], shares[..., corner, :].unsqueeze(-2)
        if at.dim() == 1:
            picked = flat.index_select(2, at)
        else:
            picked = flat.gather(2, at.unsqueeze(1).expand_as(flat))
        found = picked * share if corner == 0 else found.add_(picked.mul_(share))
    return found.view_as(x)


def _rows_with(y: Tensor, labels: tuple[int, ...]) -> Tensor:
    return torch.isin(y, torch.tensor(labels)).nonzero().flatten()
