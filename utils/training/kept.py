"""What is kept of a run's network, and how an engine and its methods become it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment, as_dict, as_text
from utils.engines.base import Engine
from utils.methods.base import Method
from utils.results import weights
from utils.results.about import FORMAT, About, KeptTask
from utils.results.weights import Kept
from utils.training.record import RunRecord


def about(
    exp: Experiment,
    stream: TaskStream,
    engine: Engine,
    methods: Sequence[Method],
    record: RunRecord,
    trained: int,
    made: dict[str, str],
) -> tuple[About, dict[str, Tensor]]:
    """The network as it is after so many tasks, with all that it classifies by and that methods
    remember; made: how it came about."""
    tensors = {weights.NETWORK + name: its for name, its in engine.weights().items()}
    tensors[f"{weights.STREAM}targets"] = stream.targets
    tensors |= {weights.STREAM + name: its for name, its in views(stream).items()}
    if stream.units is not None:
        tensors[weights.STREAM + weights.UNITS] = stream.units
    memory = {
        method.name: weights.flat(method.state(), weights.METHODS + method.name, tensors)
        for method in methods
    }
    tasks = [
        KeptTask(task.name, i, task.head, None if task.outputs is None else list(task.outputs), n)
        for i, task in enumerate(stream.tasks)
        for n in [_among(stream, i)]
    ]
    told = About(
        FORMAT,
        {name: as_text(value) for name, value in as_dict(exp).items()},
        list(stream.input_shape),
        list(stream.head_sizes),
        stream.mean.tolist(),
        stream.std.tolist(),
        tasks,
        list(stream.class_names),
        trained if len(stream.training) > 1 else len(tasks),
        [_numbers(row) for row in record.accs[:trained]],
        _numbers(record.untrained),
        memory,
        made,
        stream.train.x.is_floating_point(),
    )
    return told, tensors


def views(stream: TaskStream) -> dict[str, Tensor]:
    """What pixels are made of in every view, by the names of weights.VIEWS: a row each."""
    parts = stream.permutations, *(stream.blends or (None, None))
    return {n: its for n, its in zip(weights.VIEWS, parts, strict=True) if its is not None}


def become(
    engine: Engine, methods: Sequence[Method], kept: Kept, network: dict[str, Tensor]
) -> None:
    """Make a fresh engine and its methods those that were kept; network: what is kept of it, in the
    shapes of this one. Raises WeightsError for what does not fit them."""
    with kept.fitted():
        for method in methods:  # before the engine, which asks a router of them
            method.restore(kept.memory[method.name])
        engine.begin_with(network, kept.about.trained)


def require_same(kept: Kept, mine: dict[str, Tensor]) -> None:
    """Raise WeightsError where the kept network is another one than this, its tensors by name: one
    is missing or too many, or of another shape or type."""
    its = kept.network
    if names := mine.keys() ^ its.keys():
        lack = "lacks" if min(names) in mine else "adds"
        raise kept.unfit(
            f"the network of its configuration has other tensors: it {lack} {min(names)}"
        )
    for name, tensor in its.items():
        for what in ("shape", "dtype"):
            found, wanted = getattr(tensor, what), getattr(mine[name], what)
            if found != wanted:
                shown = [tuple(x) if what == "shape" else x for x in (found, wanted)]
                raise kept.unfit(f"{name} has the {what} {shown[0]}, its configuration {shown[1]}")


def _among(stream: TaskStream, task: int) -> int | None:
    return stream.training[task].among if len(stream.training) > 1 else None


def _numbers(row: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]
