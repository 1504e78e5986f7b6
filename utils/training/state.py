"""What the rest of training depends on, of an engine, the methods and torch's generators, as a tree
of arrays and plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exps.messages import Told
from utils.engines.base import Engine
from utils.methods.base import Method


def take(engine: Engine, methods: Sequence[Method]) -> dict[str, Any]:
    """A copy of it."""
    return {
        "engine": through(engine.state_dict(), _copied),
        "methods": {method.name: _state(method) for method in methods},
        "generators": _generators(engine.device),
    }


def put_back(tree: Any, engine: Engine, methods: Sequence[Method], *, resume: bool) -> None:
    """Make an engine and methods, which may be fresh, those of the tree; resume: within a task.

    Raises KeyError, TypeError, ValueError, IndexError, AttributeError or RuntimeError for a tree
    that does not fit.
    """
    for method in methods:  # before the engine, which asks a router of them
        method.restore(through(tree["methods"][method.name], torch.from_numpy))
    engine.begin_epoch(len(tree["engine"]["meter"]["losses"]))
    check_shapes(tree["engine"], engine.state_dict(), "engine")
    engine.load_state_dict(through(tree["engine"], torch.from_numpy))
    for method in methods if resume else ():
        method.resume(engine)
    _put_generators_back(tree["generators"], engine.device)


def _generators(device: torch.device) -> dict[str, np.ndarray]:
    """The states of the generators that dropout is drawn from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return {name: state.numpy().copy() for name, state in states.items()}


def _put_generators_back(states: Any, device: torch.device) -> None:
    """What was begun on a device of another type draws from here on as the seed has it."""
    torch.set_rng_state(torch.from_numpy(states["cpu"]))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]), device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(torch.from_numpy(states["mps"]))


def _state(method: Method) -> dict[str, Any]:
    """A copy of what a method remembers. Told for what would come back as something else."""
    state = method.state()

    def check(value: Any, where: str) -> None:
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            for key, item in value.items():
                check(item, f"{where}[{key!r}]")
        elif isinstance(value, list):
            for item in value:
                check(item, f"{where}[...]")
        elif not (value is None or isinstance(value, Tensor | bool | int | float | str)):
            raise Told(
                f"methods = {method.name}: {where} cannot be kept in a checkpoint",
                f"it is a {type(value).__name__}; kept are tensors, numbers, texts, lists, and "
                "dicts whose keys are texts",
                "let state return these, and restore make of them what you need",
            )

    check(state, "its state")
    if not isinstance(state, dict):
        raise Told(f"methods = {method.name}: its state is no dict, but a {type(state).__name__}")
    kept: dict[str, Any] = through(state, _copied)
    return kept


def check_shapes(found: Any, expected: Any, where: str) -> None:
    """Raise ValueError unless `found` has at least what a fresh engine has, in the same shapes."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            check_shapes(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            check_shapes(one, other, f"{where}.{i}")
    elif isinstance(expected, Tensor):
        if tuple(found.shape) != tuple(expected.shape):
            raise ValueError(f"{where} has the shape {found.shape}, not {tuple(expected.shape)}")
    elif type(found) is not type(expected):
        raise ValueError(f"{where} is a {type(found).__name__}")


def _copied(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", copy=True).numpy()


def through(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same dicts and lists with every tensor or array changed."""
    if isinstance(value, dict):
        return {key: through(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [through(item, change) for item in value]
    return change(value) if isinstance(value, Tensor | np.ndarray) else value
