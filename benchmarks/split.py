"""Streams whose tasks share out the classes of a data set."""

from __future__ import annotations

import itertools
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
    its = views(exp, facts)
    names = [_name(view, kind, labels) for view in its]
    train, test = pictures(arrays)
    return build_stream(
        train,
        test,
        its,
        scenario=exp.scenario,
        mean=mean,
        std=std,
        source=arrays.source,
        names=names,
        class_names=labels or (),
    )


def views(exp: Experiment, facts: Facts) -> list[tuple[int, ...]]:
    """The classes of each task, by number."""
    order = class_order(exp.class_order, facts.classes, exp.seed)
    sizes = exp.classes_per_task or (facts.task_classes,) * exp.num_batch
    ends = itertools.accumulate(sizes)
    return [order[end - size : end] for end, size in zip(ends, sizes, strict=True)]


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
