"""A run's whole state as a tree of arrays and plain values, taken and put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from exps.sizes import MAX_RESULT
from models.costs import LayerCost
from utils.engines.base import Engine
from utils.engines.meter import EpochRecord
from utils.methods.base import Costs, Method
from utils.runs.checkpoint_file import CheckpointError
from utils.training import state
from utils.training.record import BEFORE, NOT_KEPT, TESTING, TRAINING, Place, RunRecord

# Bytes that a checkpoint may have for what was measured and what methods remember: counts that a
# result has in 32 bits have 64 here, those of synapses are here twice, and what methods remember is
# there once more, as it was in the best epoch.
ROOM = 6 * MAX_RESULT


def take(
    engine: Engine, methods: Sequence[Method], record: RunRecord, place: Place
) -> dict[str, Any]:
    """A copy of everything that the rest of the run depends on, and of all that was measured.

    Before the first step the engine and the generators are as the seed makes them, and left out.
    """
    tree: dict[str, Any] = {"engine": None, "generators": None, "methods": None}
    if place.begun:
        tree |= state.take(engine, methods)
    tree["place"] = state.through(vars(place), lambda part: np.asarray(part).copy())
    return tree | {"record": _record_tree(record)}


def put_back(tree: Any, engine: Engine, methods: Sequence[Method], record: RunRecord) -> Place:
    """Make a fresh engine, the generators and the record those of the tree; where to go on.

    Raises CheckpointError for a tree that does not fit.
    """
    try:
        place = _place(tree["place"])
        restored = _restored_record(tree["record"], record)
        if tree["engine"] is not None:
            state.put_back(tree, engine, methods, resume=place.phase != BEFORE)
            if place.best is not None:
                model = engine.state_dict()["model"]
                state.check_shapes(place.best["engine"]["model"], model, "best")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"it does not fit this experiment ({reason})"[:300]) from error
    vars(record).update(vars(restored))
    return place


def size_limit(engine: Engine) -> int:
    """More bytes than a checkpoint of this engine can have, which may be there as it is and as it
    was in the best epoch, each with a momentum."""
    tensors = [*engine.model.parameters(), *engine.model.buffers()]
    return ROOM + 16 * sum(t.numel() * t.element_size() for t in tensors)


def _place(tree: Any) -> Place:
    names = "task", "epoch", "step", "read", "since"
    numbers = {name: tree[name] for name in names} | {"first": tree.get("first", 0)}
    if not all(type(n) is int and n >= 0 for n in numbers.values()):
        raise ValueError("an impossible place in the run")
    order, unit_on = tree["order"], tree["unit_on"]
    if order is not None:
        order = torch.from_numpy(_numbers(order, np.uint8, 1))
        torch.Generator().set_state(order)  # raises for what is no state
    units = None if unit_on is None else _numbers(unit_on, np.int64, 1)
    if tree["phase"] not in (BEFORE, TRAINING, TESTING):
        raise ValueError("an impossible phase of a task")
    its = {"phase": tree["phase"], "accuracy": float(tree["accuracy"]), "best": tree["best"]}
    return Place(**numbers, **its, order=order, unit_on=units)


def _record_tree(record: RunRecord) -> dict[str, Any]:
    """All but what is known of a fresh record."""
    epochs = [(e.loss, e.accuracy, e.active, e.active_std) for e in record.epochs]
    tree = vars(record) | {"epochs": np.array(epochs, np.float64).reshape(-1, 4)}
    tree["entropy"] = record.entropy()
    tree["kept"] = record.kept.parts
    tree["curve"] = {"accs": record.curve.accs, "done": record.curve.done}
    return state.through({k: v for k, v in tree.items() if k not in ("layers", "lengths")}, np.copy)


def _restored_record(tree: Any, fresh: RunRecord) -> RunRecord:
    names = ("epochs", "entropy", "accs", "given", "context_right")
    rows, entropy, accs, given, context_right = (
        _numbers(tree[name], np.float64, 2) for name in names
    )
    untrained = _numbers(tree["untrained"], np.float64, 1)
    epochs = [
        EpochRecord(loss, accuracy, active, std, NOT_KEPT, bits, None)
        for (loss, accuracy, active, std), bits in zip(rows.tolist(), entropy, strict=True)
    ]
    shapes = [array.shape for array in (accs, given, context_right, untrained)]
    if shapes != [fresh.accs.shape] * 3 + [fresh.untrained.shape]:
        raise ValueError(f"accuracies of {accs.shape} tasks, not {fresh.accs.shape}")
    if entropy.shape[1] != len(fresh.layers):
        raise ValueError(f"entropies of {entropy.shape[1]} layers, not {len(fresh.layers)}")
    curve = replace(fresh.curve, accs=_numbers(tree["curve"]["accs"], np.float64, 2))
    curve.done = int(tree["curve"]["done"])
    if curve.accs.shape != fresh.curve.accs.shape or not 0 <= curve.done <= len(curve.accs):
        raise ValueError(f"{curve.done} of {curve.accs.shape} tests within tasks")
    return RunRecord(
        accs,
        untrained,
        fresh.layers,
        fresh.lengths,
        epochs,
        unit_on=[_numbers(units, np.int64, 1) for units in tree["unit_on"]],
        weight_density={str(k): float(v) for k, v in tree["weight_density"].items()},
        costs=[asdict(LayerCost(**cost)) for cost in tree["costs"]],
        max_entropy=[float(bits) for bits in tree["max_entropy"]],
        context_right=context_right,
        given=given,
        kept=replace(fresh.kept, parts=_kept(tree["kept"], fresh.kept.parts)),
        curve=curve,
        **{name: _of_tasks(tree[name], accs) for name in ("trained", "best")},
        measured={str(name): _array(value) for name, value in tree["measured"].items()},
        method_costs={
            str(name): Costs(**{k: int(n) for k, n in costs.items()})._asdict()
            for name, costs in tree["method_costs"].items()
        },
        steps=int(tree["steps"]),
        train_seconds=float(tree["train_seconds"]),
        elapsed=float(tree["elapsed"]),
    )


def _kept(found: Any, fresh: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What was kept of pictures, in the form of what a fresh record has."""
    if {*found} != {*fresh}:
        raise ValueError(f"{', '.join(map(str, found)) or 'nothing'} kept of pictures")
    for name, part in fresh.items():
        if found[name].shape != part.shape:
            raise ValueError(f"{name} is {found[name].shape}, not {part.shape}")
    return {name: _numbers(found[name], part.dtype, part.ndim) for name, part in fresh.items()}


def _numbers(array: Any, dtype: Any, dimensions: int) -> np.ndarray:
    if type(array) is not np.ndarray or array.dtype != dtype or array.ndim != dimensions:
        raise ValueError(f"something other than {np.dtype(dtype)} in {dimensions} dimension(s)")
    return array.copy()


def _of_tasks(found: Any, accs: np.ndarray) -> np.ndarray:
    counts = _numbers(found, np.int64, 1)
    if len(counts) != len(accs) or (counts < 0).any():
        raise ValueError(f"epochs of {len(counts)} tasks, not {len(accs)}")
    return counts


def _array(value: Any) -> np.ndarray:
    if type(value) is not np.ndarray or value.dtype not in (np.int64, np.float64):
        raise ValueError("something other than numbers")
    return value.copy()
