"""Streams whose tasks share out the classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from benchmarks.formats import Arrays, channels_first
from benchmarks.seeding import generator
from benchmarks.stream import Pictures, TaskStream, build_stream
from exps.facts import Facts

if TYPE_CHECKING:
    from exps.config import Experiment


def split_stream(
    exp: Experiment,
    arrays: Arrays,
    facts: Facts,
    *,
    kind: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    labels: Sequence[str] | None = None,
) -> TaskStream:
    """exp.num_batch tasks that share out the classes in exp.class_order and exp.scenario.

    A task is named after its classes: by `labels`, or by number after `kind` ("digits 0, 1").
    """
    per_task = facts.task_classes
    order = class_order(exp.class_order, facts.classes, exp.seed)
    views = [order[i * per_task : (i + 1) * per_task] for i in range(exp.num_batch)]
    names = [_name(view, kind, labels) for view in views]
    train, test = pictures(arrays)
    return build_stream(
        train,
        test,
        views,
        scenario=exp.scenario,
        mean=mean,
        std=std,
        source=arrays.source,
        names=names,
    )


def class_order(order: str | tuple[int, ...], classes: int, seed: int) -> tuple[int, ...]:
    """The labels in the order in which tasks take them: sorted, seeded random, or as given."""
    if order == "sorted":
        return tuple(range(classes))
    if order == "random":
        return tuple(torch.randperm(classes, generator=generator(seed, "class order")).tolist())
    return tuple(int(label) for label in order)


def pictures(arrays: Arrays) -> tuple[Pictures, Pictures]:
    """Training and test pictures as tensors [n, channels, height, width]."""
    return _pictures(arrays.x_train, arrays.y_train), _pictures(arrays.x_test, arrays.y_test)


def _pictures(x: NDArray[Any], y: NDArray[Any]) -> Pictures:
    return Pictures(torch.from_numpy(channels_first(x)).contiguous(), torch.from_numpy(y).long())


def _name(view: tuple[int, ...], kind: str, labels: Sequence[str] | None) -> str:
    words = [labels[label] if labels else str(label) for label in view]
    if len(words) > 5:
        words = [words[0], "...", words[-1]]
    return ("" if labels else f"{kind} ") + ", ".join(words)
