"""The methods of an experiment, by the names of their files."""

from __future__ import annotations

from importlib import import_module

from benchmarks.stream import TaskStream
from exps.config import Experiment
from utils.methods.base import Method


def make_methods(exp: Experiment, stream: TaskStream) -> list[Method]:
    """Those that `methods` names and those that older keys stand for, in their order of work."""
    return [import_module(f"utils.methods.{name}").Method(exp, stream) for name in exp.all_methods]
