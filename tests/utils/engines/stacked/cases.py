"""Small stacks on real pictures, and what a test asks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models import make_model
from utils.engines.stacked.engine import StackedEngine
from utils.engines.stacked.stack import Stack
from utils.system.runtime import seed_everything

CPU = torch.device("cpu")
# Of each kind a network, so small that what Triton interprets takes seconds.
KINDS: dict[str, dict[str, Any]] = {
    "relu": {"sparsify": False},
    "two relus, masked, no momentum": {
        **{"hidden_layers": 2, "percent_on_fc": 1.0, "sparsify": False},
        **{"momentum": 0.0, "nesterov": False},
    },
    "winners": {},
    "winners, masked": {"weight_sparsity_fc": 0.3, "boost_strength": 0.7},
    "two layers of winners": {"hidden_layers": 2, "weight_sparsity_fc": 0.5},
    "three, no momentum": {"hidden_layers": 3, "momentum": 0.0, "nesterov": False},
    "heads": {"mnist_mode": "split", "scenario": "task", "hidden_layers": 2},
    "seen": {"mnist_mode": "split", "scenario": "class", "outputs": "seen"},
}
SMALL = {"hidden_units": 48, "percent_on_fc": 0.05, "mb_size": 8, "num_batch": 2, "device": "cpu"}


def experiment(kind: str, **changes: Any) -> Experiment:
    """One of the kinds, as it takes effect."""
    split = {"num_batch": 5} if "mnist_mode" in KINDS[kind] else {}
    return Experiment(name="Test", **{**SMALL, **split, **KINDS[kind], **changes}).in_effect


def network(exp: Experiment, stream: TaskStream, seed: int) -> Any:
    """The network of a seed."""
    seed_everything(seed)
    return make_model(exp, stream.input_shape, stream.head_sizes)


def stacked(
    exp: Experiment, stream: TaskStream, seeds: list[int], device: torch.device = CPU
) -> list[StackedEngine]:
    """The members of a stack, with all that they do written down in one epoch."""
    stack = Stack(exp, network(exp, stream, 0), stream, len(seeds), device)
    members = [
        StackedEngine.of(stack, s, network(exp, stream, seed), stream, seed)
        for s, seed in enumerate(seeds)
    ]
    for its in members:
        its.begin_epoch(40)
    return members


def pictures(exp: Experiment, stream: TaskStream, task: int, steps: int, short: int = 0) -> Samples:
    """Enough of a task for so many steps, the last one short of a few."""
    return stream.training[task].train.take(slice(0, steps * exp.mb_size - short))


def tensors(its: Any, where: str = "") -> dict[str, Tensor]:
    """Every tensor of a stack's memory, or of what an engine's state holds, by its place."""
    if isinstance(its, Tensor):
        return {where: its}
    found: dict[str, Tensor] = {}
    parts: Any = {}
    if is_dataclass(its):
        parts = {f.name: getattr(its, f.name) for f in fields(its)}
    elif isinstance(its, dict):
        parts = its
    elif isinstance(its, list | tuple):
        parts = dict(enumerate(its))
    for name, part in parts.items():
        found |= tensors(part, f"{where}.{name}")
    return found


def memory(stack: Stack) -> dict[str, Tensor]:
    """All that a step reads or writes."""
    names = ("layers", "heads", "draws", "counts", "queue", "flow", "seen", "scales")
    return tensors({name: getattr(stack, name) for name in names})


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, by the largest value; NaN is like NaN."""
    one, other = one.double().nan_to_num(-1.0), other.double().nan_to_num(-1.0)
    if one.numel() == 0:
        return 0.0
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-3))


StreamOf = Callable[..., TaskStream]
