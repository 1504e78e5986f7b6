"""The interface of engines: how steps and predictions are computed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from benchmarks.stream import Samples
from models.network import Network
from utils.engines.batch import Batch, Loss
from utils.engines.meter import EpochRecord
from utils.engines.mixed import PLAIN


class Need(Enum):
    """What a method may need of an engine beyond steps on parts and losses on logits, which every
    engine has; the value completes 'it has no ...'."""

    GRADIENTS = "gradient of every parameter"
    PULL = "pull of every parameter towards an anchor"
    SCALE = "learning rate of its own for every synapse"
    MASKS = "masks that change"
    PROJECTION = "gradient that is kept from raising another loss"


class Spring(NamedTuple):
    """A pull on a parameter, both in its shape: strength · (parameter - anchor) is added to the
    gradient."""

    strength: Tensor
    anchor: Tensor


@runtime_checkable
class Parts(Protocol):
    """Which units a task has: what an engine of parts asks.

    told: whether the scenario tells which task a picture is of; then task i has head i for itself.
    Otherwise it is a `Router`."""

    told: bool

    def units_of(self, task: int) -> Sequence[Tensor]:
        """The units of each group (`models.network.Wire`) that take part, int64 [size], in order;
        [] as long as that is not settled."""


@runtime_checkable
class Router(Parts, Protocol):
    """Finds which of the tasks that have begun a picture is of."""

    def route(self, x: Tensor, ask: Callable[[int], Tensor]) -> Tensor:
        """The task of each picture x [batch, inputs]: int64 [batch]. ask: the logits [batch,
        classes] of these pictures by the part of a task."""


class Asking(Protocol):
    """What is to be known of a method to choose an engine for it: see `utils.methods.base`."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks of an engine."""

    def prepare(self, model: Network) -> None:
        """Attach what is shaped like the parameters."""


class Engine(Protocol):
    """Trains and evaluates one network on one device. Nothing in `step` waits for the device."""

    name: str
    can: frozenset[Need]
    device: torch.device
    units: int  # inputs of the classifier
    why_not_faster: str  # why a faster engine was not taken; '' where there is none

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""

    @property
    def active(self) -> Network:
        """The part of it that is trained now, which methods act on; without parts all of it."""

    def begin_task(self) -> None:
        """What methods add to a step may be another from now on."""

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of the optimiser; the logits, part by part, before it."""

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""

    def scale(self, factors: dict[Tensor, Tensor]) -> None:
        """From now on multiply the updates of these parameters of `active` with factors in their
        shapes."""

    def pull(self, by: str, springs: dict[Tensor, Spring]) -> None:
        """From now on pull these parameters of `active`; each method, `by`, has its own springs."""

    def rate(self, share: float) -> None:
        """The next steps have this share of lr; asked only of engines for which `exp.unusual` may
        be set."""

    def restart(self) -> None:
        """The optimiser begins anew: momentum is zero."""

    def renew(self, model: Network) -> None:
        """Begin anew as this network of the same shape; what methods attached stays."""

    def follow_masks(self) -> None:
        """The masks of `active` have changed, and so may weights that were hidden before; what is
        hidden now is zero, and has no momentum."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""

    def weights(self) -> dict[str, Tensor]:
        """All that it classifies by: the state of the network, and what is held beside it."""

    def begin_with(self, weights: dict[str, Tensor], tasks: int) -> None:
        """Begin anew with what `weights` gave after so many tasks, and without momentum."""

    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, in evaluation mode, and
        their labels int64 [n]."""

    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """The inputs of the classifiers [n, units], of the same pictures in the same mode."""

    def found(self) -> Tensor | None:
        """The context of each picture of the last `logits`, int64 [n]; None where none is looked
        for."""

    def enter(self, task: int) -> None:
        """Train the part of a task; without parts nothing."""

    def units_of(self, task: int) -> Sequence[Tensor] | None:
        """The units of a task, see `Parts`; None where all are every task's."""


class Whole:
    """Of engines that train all of a network at a time, without contexts. What a method may need
    (`Need`) is not here, but where an engine has it."""

    @property
    def active(self: Engine) -> Network:
        """All of the network."""
        return self.model

    def begin_task(self) -> None:
        """Every step asks the methods anew."""

    def scale(self: Engine, factors: dict[Tensor, Tensor]) -> None:
        """Not here."""
        raise _lacking(self, Need.SCALE)

    def pull(self: Engine, by: str, springs: dict[Tensor, Spring]) -> None:
        """Not here."""
        raise _lacking(self, Need.PULL)

    def follow_masks(self: Engine) -> None:
        """Not here."""
        raise _lacking(self, Need.MASKS)

    def weights(self: Engine) -> dict[str, Tensor]:
        """The state of the network."""
        return dict(self.model.state_dict())

    def begin_with(self: Engine, weights: dict[str, Tensor], tasks: int) -> None:
        """Begin anew with what `weights` gave after so many tasks, and without momentum."""
        self.begin_epoch(1)
        fresh = self.state_dict()
        plain = dict.fromkeys(fresh["mix"], PLAIN)
        zero = {name: torch.zeros_like(its) for name, its in fresh["momentum"].items()}
        new = {"model": weights, "momentum": zero, "optimizer": {}, "mix": plain}
        self.load_state_dict(fresh | new)

    def rate(self, share: float) -> None:
        """Not here: lr stays what it is."""
        raise NotImplementedError("another engine is to be taken where lr changes")

    def found(self) -> None:
        """There are no contexts."""

    def enter(self, task: int) -> None:
        """There are no parts."""

    def units_of(self, task: int) -> None:
        """All are every task's."""


def _lacking(engine: Engine, need: Need) -> NotImplementedError:
    return NotImplementedError(f"the {engine.name} engine has no {need.value}")


@runtime_checkable
class Ahead(Protocol):
    """An engine that takes several steps at a time, where no method looks at each."""

    at_once: int
    test_batch: int  # pictures to test at a time

    def take_steps(self, samples: Samples, head: int, outputs: int | None) -> None:
        """A step for each mini-batch of the samples, one after the other, at most `at_once`: with a
        head, of whose outputs the first so many count (None: all)."""
