"""The compiled loops give the same bits wherever in memory their arrays lie.

A compiler makes a loop in vectors and one without, and takes the second where arrays seem too near
to each other; that must not change a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from utils.engines.winners import loops

Arrays = dict[int, np.ndarray[Any, Any]]
PLACES = 4  # of the arrays of every call
FAR = 2**17  # bytes: a compiler minds how near arrays are in steps of a whole row
LOOPS = sorted(
    name
    for name, found in vars(loops).items()
    if hasattr(found, "py_func") and not name.startswith("_")
)


def arrays_of(arguments: Any, found: Arrays) -> Arrays:
    """All arrays among the arguments of a loop, by their memory: some are given twice."""
    for some in arguments:
        if isinstance(some, tuple):
            arrays_of(some, found)
        elif isinstance(some, np.ndarray):
            found[some.ctypes.data] = some
    return found


def room(some: np.ndarray[Any, Any]) -> int:
    """The bytes from its first number to its last."""
    steps = zip(some.shape, some.strides, strict=True)
    return some.itemsize + sum((n - 1) * step for n, step in steps) if some.size else 0


def placed(found: Arrays, random: np.random.Generator) -> Arrays:
    """Copies in one piece of memory, in any order, with any gaps between them, or none."""
    memory = np.zeros(sum(room(a) + FAR + 8 for a in found.values()), np.uint8)
    copies, at = {}, 0
    for place in random.permutation(list(found)):
        some = found[place]
        at += int(FAR ** random.uniform()) - 1
        at += -at % some.itemsize
        flat = memory[at : at + room(some)].view(some.dtype)
        copies[place] = as_strided(flat, some.shape, some.strides)
        copies[place][...] = some
        at += room(some)
    return copies


def put(arguments: Any, copies: Arrays) -> tuple[Any, ...]:
    """The arguments with copies in the place of arrays."""
    return tuple(
        put(some, copies)
        if isinstance(some, tuple)
        else as_strided(copies[some.ctypes.data], some.shape, some.strides)
        if isinstance(some, np.ndarray)
        else some
        for some in arguments
    )


def moved(loop: Callable[..., Any], name: str, faults: dict[str, list[bool]]) -> Any:
    """The loop, of which every call is made in other places too, and compared."""
    random = np.random.default_rng(0)

    def call(*arguments: Any) -> Any:
        mine = arrays_of(arguments, {})
        others = [placed(mine, random) for _ in range(PLACES)]
        said = [loop(*put(arguments, copies)) for copies in others]
        said.append(loop(*arguments))
        same = all(one == said[0] for one in said) and all(
            copies[place].tobytes() == some.tobytes()
            for copies in others
            for place, some in mine.items()
        )
        faults.setdefault(name, []).append(not same)
        return said[-1]

    return call


CASES: list[dict[str, Any]] = [
    {"mb_size": 2},
    {"mb_size": 8, "momentum": 0.0, "nesterov": False, "dynamic": "grow", "old_synapse_lr": 0.3},
    {"hidden_units": 512, "percent_on_fc": 0.02, "sparsify": True, "momentum": 0.9},
    {"hidden_units": 512, "percent_on_fc": 0.02, "momentum": 0.0, "nesterov": False},
    {"hidden_units": 512, "percent_on_fc": 0.02, "precision": "bf16"},
    {"hidden_layers": 2, "hidden_units": 320, "percent_on_fc": 0.05, "dropout": 0.5},
    {"hidden_layers": 2, "dynamic": "set", "old_synapse_lr": 0.3, "precision": "bf16"},
]


def test_numbers_do_not_depend_on_where_arrays_lie(
    experiment: Callable, stream_of: Callable, trained: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: dict[str, list[bool]] = {}
    for name in LOOPS:
        monkeypatch.setattr(loops, name, moved(getattr(loops, name), name, faults))
    for keys in CASES:
        exp = experiment(engine="sparse", train_ep_inc=1, **keys)
        trained(exp, stream_of(exp, train=12 * exp.mb_size, test=40))
    assert {name: sum(calls) for name, calls in faults.items()} == dict.fromkeys(LOOPS, 0)
