"""What is asked of any network: features, a classifier per head, and its layers with weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks import Block
from sparse_syn.kept import KeepsTypes


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, in here alone."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


class Wire(NamedTuple):
    """A module of a network of which a task can have a part, and the groups of units, by number,
    whose values it reads and writes. Units are of one group where what several layers write is
    added; `exps.experiment.Experiment.groups` says how many each has.

    reads: None for pictures, and for what is computed unit by unit (a norm, an activation)."""

    module: nn.Module
    reads: int | None
    writes: int


class Network(KeepsTypes):
    """The input of the classifiers, `features`, is a network's own; the classifiers are dense.

    units: how wide that input is; heads: a linear classifier each. A network whose winners an
    engine can follow by index says so by `blocks`: its hidden layers from the flattened input on;
    one of which a task can have a part by `wires`. Any other leaves the lists empty.
    """

    units: int
    heads: nn.ModuleList
    looks = 0  # how many pictures of the first task it looks at, before anything is trained

    def add_heads(self, units: int, head_sizes: Sequence[int]) -> None:
        """Add the classifiers: what `__init__` does last."""
        self.units = units
        self.heads = nn.ModuleList(nn.Linear(units, size) for size in head_sizes)

    def kept(self) -> dict[str, Tensor]:
        """The buffers that keep their types: all, also what methods attach, but those that pictures
        are computed with: of batch norm, and of modules that say `casts`."""
        computing = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d) or casts(m)]
        own = {id(b) for m in computing for b in m.buffers() if b.is_floating_point()}
        return {name: b for name, b in self.named_buffers() if id(b) not in own}

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, units] for x [batch, channels, height, width]."""
        raise NotImplementedError

    def look(self, x: Tensor, generator: torch.Generator) -> None:
        """Look at them: x [n, channels, height, width], all of the task if there are fewer than
        `looks`; generator: for draws, of the CPU."""

    def forward(self, x: Tensor, head: int = 0) -> Tensor:
        """Logits [batch, head_sizes[head]] of pictures [batch, channels, height, width]."""
        return self.heads[head](self.features(x))

    @property
    def blocks(self) -> list[Block]:
        """The fully connected hidden layers in the order of computation."""
        return []

    @property
    def wires(self) -> list[Wire]:
        """All modules that hold something of units, but the classifiers, that of the features
        last; [] where tasks can have no parts."""
        return []

    @property
    def plain(self) -> bool:
        """Whether `features` is these blocks one after the other, and nothing else."""
        return False

    @property
    def all_blocks(self) -> list[Block]:
        """All hidden layers in the order of computation, convolutions too."""
        return self.blocks


def casts(module: nn.Module) -> bool:
    """Whether a module's buffers have the type of what is computed with them."""
    return getattr(module, "casts", False)
