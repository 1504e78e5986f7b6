"""What defines a key of the configuration: its kind, default, meaning and when it counts.

The loader, `--explain`, the parameter table of README and the error messages are all made from it.
Keys of all experiments are in `exps.definitions`; a benchmark, a network, a method or an optimiser
declares its own as KEYS in its file (`exps.plugins`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exps.kinds import Kind, Value

if TYPE_CHECKING:
    from exps.experiment import Experiment


@dataclass(frozen=True)
class When:
    """The experiments in which a key does something; `text` completes 'counts only with ...'."""

    text: str
    holds: Callable[[Experiment], bool]


ALWAYS = When("", lambda exp: True)


@dataclass(frozen=True)
class Key:
    """tests: whether it decides what is tested: accuracies at different values of it are those of
    different tasks, which are never compared run by run or ranked."""

    default: Value
    kind: Kind
    meaning: str
    when: When = ALWAYS
    tests: bool = False
