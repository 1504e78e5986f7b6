"""The small interfaces of engines: for training and evaluation, and for what changes synapses."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples
from models.mlp import MLP
from utils.meter import EpochRecord


class Engine(Protocol):
    """Trains and evaluates one model on one device. Nothing in `step` waits for the device."""

    name: str
    device: torch.device
    units: int  # inputs of the classifier
    why_not_faster: str  # why a faster engine was not taken; '' where there is none

    @property
    def model(self) -> MLP:
        """The model, with the weights as they are now."""

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""

    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures."""

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""

    def measured(self, task: int) -> dict[str, np.ndarray]:
        """What only such an engine has to say about the tasks up to this one, which was trained
        last, for the result: counted now."""

    def contexts_right(self, task: int) -> Tensor | None:
        """Of how many pictures of the last `logits`, all of this task, the context was found, int64
        []; None without contexts."""

    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, in evaluation mode, and their labels int64 [n]."""


class PlainEngine(Engine, Protocol):
    """One whose synapses others change, between two steps: see `staged`."""

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """From now on multiply the gradients of these parameters, with factors in their shapes."""

    def restart(self) -> None:
        """Momentum starts from zero."""

    def follow_masks(self) -> None:
        """The masks of `model` have changed, and so may weights that were hidden before; what is
        hidden now is zero, and has no momentum."""
