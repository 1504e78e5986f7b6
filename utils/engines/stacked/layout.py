"""What a stack of networks of one shape is made of: S members, each its own slice [s] of all.

B pictures, I inputs of a layer, N units, K winners, C classes of the widest head, V views.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
BLOCK_OF_UNITS = 32  # whose activity is counted together


class Descent(NamedTuple):
    """SGD, as `utils.optimizers.sgd` has it."""

    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool


@dataclass
class View:
    """The pictures of all members, and how each sees them: pictures uint8 or float32 [P, I], labels
    int64 [P], orders int32 [S, V, I] or None, targets int64 [S, V, labels], scale, shift float32
    [I].
    """

    pictures: Tensor
    labels: Tensor
    orders: Tensor | None
    targets: Tensor
    scale: Tensor
    shift: Tensor


@dataclass
class Queue:
    """The steps that come next: rows, views int32 [S, Q, B], counts int32 [S, Q] of the pictures in
    them (0: none, and nothing happens), at int64 [S]: how many of them are taken; head, classes,
    outputs int32 [S]: the classifier, how many outputs it has, and how many of them are trained.
    """

    rows: Tensor
    views: Tensor
    counts: Tensor
    at: Tensor
    head: Tensor
    classes: Tensor
    outputs: Tensor


@dataclass
class Layer:
    """A hidden layer: weight float32 [S, N, I], bias [S, N], their momenta (None without momentum),
    mask bool like the weight or None, half: a bf16 copy of the weight, or None.

    Of winners: duty [S, N], strength [S], seen int64 [S], the samples so far. Between winners the
    weight is held in `parts` [S, I, N] with scales float64 [S, parts], as `winners.lazy` has them,
    and so is the mask; weight is then what it was at some time. number: where it is, which sets
    its dropout apart.
    """

    number: int
    p: float
    weight: Tensor
    bias: Tensor
    mask: Tensor | None
    momentum: Tensor | None = None
    bias_momentum: Tensor | None = None
    half: Tensor | None = None
    k: int = 0
    k_inference: int = 0
    period: int = 0
    duty: Tensor | None = None
    strength: Tensor | None = None
    seen: Tensor | None = None
    parts: tuple[Tensor, ...] = ()
    scales: Tensor | None = None
    decays: Tensor | None = None  # float64 [1, parts], what a step makes of the scales
    gain: tuple[float, ...] = ()

    @property
    def units(self) -> int:
        """N."""
        return self.bias.shape[1]

    @property
    def computed(self) -> Tensor:
        """The weights, in the type that is computed in."""
        return self.weight if self.half is None else self.half


@dataclass
class Heads:
    """The classifiers: weight float32 [S, heads, C, N], bias [S, heads, C], and their momenta."""

    weight: Tensor
    bias: Tensor
    momentum: Tensor | None
    bias_momentum: Tensor | None


@dataclass
class On:
    """The winners of a layer: unit int32, their raw values, dropout's factors (0 for what is off),
    and the gradient of their pre-activations, float32, all [S, B, K]."""

    unit: Tensor
    raw: Tensor
    scale: Tensor
    gradient: Tensor

    @staticmethod
    def of(size: int, batch: int, k: int, device: torch.device) -> On:
        """Memory for them."""
        some = [torch.zeros(size, batch, k, device=device) for _ in range(3)]
        return On(torch.zeros(size, batch, k, dtype=torch.int32, device=device), *some)


@dataclass
class Dense:
    """The outputs h of a layer after ReLU and dropout, and the gradient of its pre-activations, in
    the type that is computed in, [S, B, N]; on: int32 [S, blocks], how many are not zero.
    """

    h: Tensor
    gradient: Tensor
    on: Tensor


@dataclass
class Flow:
    """A mini-batch on its way: inputs x [S, B, I], labels y int32 [S, B], count int32 [S], the
    hidden layers' outputs, the logits and their gradient float32 [S, B, C], loss float32 and right
    int32 [S, B] of each picture."""

    x: Tensor
    y: Tensor
    count: Tensor
    outputs: list[On | Dense]
    logits: Tensor
    error: Tensor
    loss: Tensor
    right: Tensor


@dataclass
class Draws:
    """What dropout is drawn by: seed, taken (steps so far) int64 [S]."""

    seed: Tensor
    taken: Tensor


@dataclass
class Counts:
    """What an epoch looked like, see `Meter`: losses, active float32, sizes int64 [S, steps],
    correct, done int64 [S], unit_on int64 [S, N]; without `stats` nothing is known of activity."""

    losses: Tensor
    active: Tensor
    sizes: Tensor
    correct: Tensor
    done: Tensor
    unit_on: Tensor
    stats: bool


def member(its: T, s: int) -> T:
    """The same of one member alone, S = 1, in the same memory."""

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[s : s + 1] if len(value) > 1 or s == 0 else value
        if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            return tuple(part[s : s + 1] for part in value)
        return value

    assert not isinstance(its, View), "its pictures are everybody's"
    return type(its)(**{f.name: cut(getattr(its, f.name)) for f in fields(its)})  # type: ignore[arg-type]
