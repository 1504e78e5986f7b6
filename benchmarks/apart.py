"""Training pictures that are not trained on: held out, to be tested on in place of the test
pictures, or watched, to end training by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from benchmarks.formats import DataError
from benchmarks.seeding import generator
from benchmarks.stream import Pictures, Samples, Task, TaskStream


def held_out(stream: TaskStream, share: float, seed: int) -> TaskStream:
    """The same tasks, tested on a share of their training pictures (see `_parts`); trained on the
    others."""
    parts = _parts(stream.train, share, seed, "validation")

    def split(task: Task) -> Task:
        train, test = parts(task.train)
        return replace(task, train=train, test=test)

    tasks = tuple(map(split, stream.tasks))
    source = f"{stream.source}, tested on {100 * share:.4g} % of the training pictures"
    return replace(stream, test=stream.train, training=tasks, tasks=tasks, source=source)


def watching(stream: TaskStream, share: float, seed: int, which: Sequence[int]) -> TaskStream:
    """The same tasks, of which these, by number, watch a share of their training pictures (see
    `_parts`) and train on the others. Raises DataError where one has none to be watched."""
    parts = _parts(stream.train, share, seed, "watched")

    def split(task: Task) -> Task:
        train, watched = parts(task.train)
        if not len(watched):
            why = "no class of it has two training pictures left, one of which could be watched"
            what = f"patience: nothing of {task.name} to watch"
            raise DataError(what, why, "set it to 0, or validation lower")
        return replace(task, train=train, watched=watched)

    training = [split(t) if i in which else t for i, t in enumerate(stream.training)]
    return replace(stream, training=tuple(training))


def _parts(
    pictures: Pictures, share: float, seed: int, purpose: str
) -> Callable[[Samples], tuple[Samples, Samples]]:
    """What parts samples into those that are left and those that are held out.

    The share is that of every class: at least one picture of it goes each way, or is left where
    there is but one. The seed draws the pictures, in whatever order they are.
    """
    rank = _drawn(pictures, seed, purpose)

    @cache  # tasks share their rows
    def rows_of(rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        held, distinct = torch.zeros(len(rank), dtype=torch.bool), rows.unique()
        in_order = distinct[rank[distinct].argsort()]
        labels = pictures.y[in_order]
        for label in labels.unique():
            mine = in_order[labels == label]
            count = min(max(round(len(mine) * share), 1), len(mine) - 1)
            held[mine[:count]] = True
        return [(which, rows[which]) for which in (~held[rows], held[rows])]

    def parts(samples: Samples) -> tuple[Samples, Samples]:
        view = samples.view
        left, held = (
            Samples(rows, view if isinstance(view, int) else view[which])
            for which, rows in rows_of(samples.rows)
        )
        return left, held

    return parts


def _drawn(pictures: Pictures, seed: int, purpose: str) -> Tensor:
    """int64 [n], the place of every picture in a random order of all.

    The same pictures in another order have the same places: they are sorted by what they are first.
    """
    x = pictures.x.flatten(1).view(torch.uint8)
    whole = torch.cat([x, pictures.y.to(torch.uint8).unsqueeze(1)], 1).numpy()
    contents = whole.view(f"V{whole.shape[1]}").ravel()
    rank = torch.empty(len(x), dtype=torch.int64)
    order = torch.from_numpy(contents.argsort(kind="stable"))
    rank[order] = torch.randperm(len(x), generator=generator(seed, purpose))
    return rank
