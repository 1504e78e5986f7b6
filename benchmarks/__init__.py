"""Benchmarks: the task streams that experiments train on. A new one is a new module here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exps import plugins

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

__all__ = ["make_stream"]


def make_stream(exp: Experiment) -> TaskStream:
    """The stream that the file of exp.benchmark makes for an experiment, joint if exp.cumul, with
    the boundaries that exp.stream says.

    With exp.validation a part of the training pictures takes the place of the test pictures; with
    exp.patience another part is watched in the tasks that the network learns.

    Raises benchmarks.datasets.DataError where its pictures cannot be had, or where nothing can be
    learned from them, and ConfigError for a data_dir that cannot be used.
    """
    # Torch comes with them, and many runs begin without.
    from benchmarks.apart import held_out, watching
    from benchmarks.boundaries import bounded
    from benchmarks.classes import missing_classes
    from benchmarks.digest import of_stream
    from benchmarks.stream import TaskStream, among_seen, joint

    exp = exp.in_effect
    stream = plugins.call(plugins.BENCHMARK, exp.benchmark, "make_stream", exp)
    if not isinstance(stream, TaskStream):
        raise plugins.unlike(exp.benchmark, "make_stream", "a TaskStream", stream)
    stream = stream if stream.data else replace(stream, data=of_stream(stream))
    stream = held_out(stream, exp.validation, exp.seed) if exp.validation else stream
    stream = replace(stream, warnings=(*stream.warnings, *missing_classes(stream)))
    stream = joint(stream) if exp.cumul else bounded(stream, exp)
    if exp.outputs == "seen" and exp.scenario == "class" and not exp.cumul:
        stream = among_seen(stream)
    learning = [i for i in range(len(stream.training)) if exp.patience and exp.steps(i, 1)]
    return watching(stream, exp.watched, exp.seed, learning) if learning else stream
