"""The methods of an experiment, by the names of their files."""

from __future__ import annotations

from benchmarks.stream import TaskStream
from exps import plugins
from exps.config import Experiment
from utils.methods.base import Method


def make_methods(exp: Experiment, stream: TaskStream) -> list[Method]:
    """Those that `methods` names and those that older keys stand for, in their order of work."""
    methods = []
    for name in exp.all_methods:
        with plugins.blamed(name):
            methods.append(plugins.load(plugins.METHOD, name).Method(exp, stream))
    return methods
