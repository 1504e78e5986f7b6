"""How any data become tasks, and in which units their numbers are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.formats import Arrays, Dataset
from exps.facts import Facts, Shape, shared_out
from exps.keys import Key, When
from exps.kinds import Choice, Number

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

CHUNK = 4096  # pictures at a time
NUMBERS = 2**24  # at a time, of pictures so large that this is fewer
FAR = 10  # deviations of the first task in the root of the mean square
CONSTANT = 1e-7  # a deviation of so little of the mean is rounding: the numbers are all the same

TASKS = Key(
    "split",
    Choice(("split", "permute", "rotate")),
    "split: they share out the classes; permute, rotate: all classes in every task, its pixels in "
    "an order of its own, or turned further than in the one before",
    tests=True,
)
ROTATION_MAX = Key(
    180.0,
    Number(0, 360, unit="degrees"),
    "by how much the pictures of the last task are turned, counter-clockwise; those of the first "
    "are not, the others in equal steps",
    When(
        "tasks or mnist_mode = rotate",
        lambda e: "rotate" in (getattr(e, "tasks", ""), getattr(e, "mnist_mode", "")),
    ),
    tests=True,
)


def facts_of(
    exp: Experiment,
    picture: Shape,
    classes: int,
    pictures: int,
    tested: int,
    *,
    floats: bool = False,
    mirrored: bool = True,
) -> Facts:
    """Classes that tasks share out, or that all of them have, as exp.tasks says."""
    if exp.tasks == "split":
        found = shared_out(picture, classes, pictures, exp.num_batch)
    else:
        found = Facts(picture, classes, pictures)
    return replace(found, tested=tested, floats=floats, mirrored=mirrored)


def make_tasks(
    exp: Experiment,
    arrays: Arrays,
    facts: Facts,
    *,
    kind: str,
    labels: tuple[str, ...],
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> TaskStream:
    """The tasks that exp.tasks says, in units of the first one's training pictures.

    kind: what classes are called that are labelled by their numbers. mean, std: what is taken in
    place of the first task's, for all channels or each, () for neither.
    """
    import torch

    from benchmarks.split import split_stream, views
    from benchmarks.views import permuted_stream, rotated_stream

    first = arrays.x_train
    if facts.split and len(seen := views(exp, facts)[0]) < facts.classes:
        mine = np.isin(arrays.y_train, seen)
        first = first[mine] if mine.any() else first  # without any the stream says what is missing
    found_mean, found_std = moments(first)
    less = np.broadcast_to(mean or found_mean, found_mean.shape)
    unit = np.broadcast_to(std or found_std, found_std.shape)
    units = None
    warnings: tuple[str, ...] = ()
    if arrays.x_train.ndim == 2:  # a feature may move to the place of another
        units = torch.tensor(np.stack([less, unit]))
        train, test = (in_units(x, less, unit) for x in (arrays.x_train, arrays.x_test))
        arrays, less, unit = replace(arrays, x_train=train, x_test=test), np.zeros(1), np.ones(1)
        warnings = () if std else unsteady(train)
    its: dict[str, Any] = {"mean": tuple(less.tolist()), "std": tuple(unit.tolist())}
    if facts.split:
        numbered = labels == tuple(map(str, range(len(labels))))
        names = None if numbered else labels
        stream = split_stream(exp, arrays, facts, kind=kind, labels=names, **its)
    elif exp.tasks == "permute":
        stream = permuted_stream(exp, arrays, facts, **its)
    else:
        stream = rotated_stream(exp, arrays, facts, **its)
    return replace(stream, class_names=labels, units=units, warnings=warnings)


def stream_of(
    exp: Experiment, dataset: Dataset, facts: Facts, *, kind: str, labels: tuple[str, ...]
) -> TaskStream:
    """`make_tasks` of a data set. Raises DataError where the pictures cannot be had."""
    from benchmarks.digest import load

    arrays, data = load(dataset, Path(exp.data_dir))
    return replace(make_tasks(exp, arrays, facts, kind=kind, labels=labels), data=data)


def moments(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of pictures by channel, of uint8 on a scale of 0 to 1, or of features by
    feature; where all numbers are the same the deviation is 1."""
    x = x[..., np.newaxis] if x.ndim == 3 else x
    top, count = (255 if x.dtype == np.uint8 else 1), x[..., 0].size
    axes = tuple(range(x.ndim - 1))
    step = max(1, min(CHUNK, NUMBERS // math.prod(x.shape[1:])))

    def total(power: int, mean: Any) -> NDArray[np.float64]:
        parts = (x[at : at + step] / np.float64(top) - mean for at in range(0, len(x), step))
        return np.sum([(part**power).sum(axes) for part in parts], axis=0) / count

    mean = total(1, 0.0)
    std = np.sqrt(total(2, mean))
    return mean, np.where(std <= CONSTANT * np.abs(mean), 1.0, std)


def unsteady(x: NDArray[np.float32]) -> tuple[str, ...]:
    """A warning where features [n, features] of all tasks are far from 0 in the first one's
    units."""
    sizes = np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64) / len(x))
    many, most = int((sizes > FAR).sum()), int(sizes.argmax())
    if not many:
        return ()
    return (
        f"{many} of {len(sizes)} features are far larger in later tasks than in the first, whose "
        f"deviations they are divided by (feature {most}: {sizes[most]:,.0f} of them); they will "
        "outweigh all others; set data_std, one number will do, or begin with other classes",
    )


def in_units(x: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]) -> NDArray[np.float32]:
    """Features float32 [n, features] less the mean, in units of the deviation."""
    found = np.empty_like(x)
    for at in range(0, len(x), CHUNK):
        found[at : at + CHUNK] = (x[at : at + CHUNK] - mean) / std
    return found
