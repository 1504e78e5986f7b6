"""Whether the pictures of every task are of all its classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from benchmarks.formats import DataError
from benchmarks.stream import TaskStream
from exps.messages import all_of


def missing_classes(stream: TaskStream) -> tuple[str, ...]:
    """A line on every class of a task that its training or its test pictures lack.

    Raises DataError where nothing could be learned, from pictures of one class alone of several,
    and where there is nothing to test on.
    """
    found: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for part, pictures in (("training", stream.train), ("test", stream.test)):
        present = cache(lambda rows, y=pictures.y: set(y[rows].unique().tolist()))
        for task in stream.tasks:
            samples = task.train if part == "training" else task.test
            classes = (stream.targets[samples.view] >= 0).nonzero().flatten().tolist()
            lacking = tuple(c for c in classes if c not in present(samples.rows))
            if lacking:
                found[part, lacking].append(task.name)
            left = len(classes) - len(lacking)
            if left == 0 or (part == "training" and left == 1 < len(classes)):
                raise DataError(
                    _lack([task.name], part, _names(stream, lacking)),
                    f"so nothing can be {'learned' if part == 'training' else 'tested'}:"
                    f" the pictures are those of {stream.source}",
                    "take a data set with pictures of these classes; or, where tasks share out"
                    " the classes, fewer tasks or another class_order",
                )
    return tuple(
        f"{_lack(names, part, _names(stream, lacking))}; the pictures are those of {stream.source}"
        for (part, lacking), names in found.items()
    )


def _names(stream: TaskStream, classes: Sequence[int]) -> list[str]:
    return [stream.class_names[c] if stream.class_names else str(c) for c in classes]


def _lack(names: Sequence[str], part: str, classes: Sequence[str]) -> str:
    tasks = [f"'{name}'" for name in names[:3]]
    tasks += [f"{len(names) - 3} more"] if len(names) > 3 else []
    task = f"the task {tasks[0]} has" if len(names) == 1 else f"the tasks {all_of(tasks)} have"
    which = f"class{'es' if len(classes) > 1 else ''} {all_of(classes)}"
    return f"{task} no {part} pictures of {which}"
