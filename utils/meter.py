"""What an epoch of training looked like: gathered on the device, read once at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochRecord:
    """loss: mean over samples; accuracy: fraction right on the training batches as they came;
    active, active_std: mean and standard deviation over mini-batches of the percentage of non-zero
    inputs of the classifier; unit_on: int64 [units], in how many samples each of them was non-zero;
    bad_step: the first step whose loss was not finite, or None.
    """

    loss: float
    accuracy: float
    active: float
    active_std: float
    unit_on: np.ndarray
    bad_step: int | None


class Meter:
    """Collects `add`s without waiting for the device; `read` synchronises, once."""

    def __init__(self, steps: int, units: int, device: torch.device):
        self.losses = torch.zeros(steps, device=device)
        self.active = torch.zeros(steps, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.unit_on = torch.zeros(units, dtype=torch.int64, device=device)
        self.sizes: list[int] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One mini-batch: its mean loss [], logits [batch, classes], labels int64 [batch]."""
        self.losses[len(self.sizes)] = loss.detach()
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.sizes.append(len(labels))

    def add_activity(self, features: Tensor) -> None:
        """The classifier's inputs of the mini-batch that `add` comes next for: [batch, units]."""
        on = features.detach() != 0
        counts = on.sum(0)
        self.unit_on += counts
        self.active[len(self.sizes)] = counts.sum() / on.numel()

    def add_winners(self, index: Tensor, value: Tensor) -> None:
        """The same for features given by the indices [batch, k] of the units and their values."""
        on = value != 0
        self.unit_on.index_add_(0, index.flatten(), on.long().flatten())
        self.active[len(self.sizes)] = on.sum() / (len(index) * len(self.unit_on))

    def read(self) -> EpochRecord:
        """The record of the steps added since the meter was made."""
        done = len(self.sizes)
        losses = self.losses[:done].double().cpu().numpy()
        active = 100 * self.active[:done].double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        sizes = np.array(self.sizes)
        return EpochRecord(
            loss=float((losses * sizes).sum() / sizes.sum()),
            accuracy=self.correct.item() / int(sizes.sum()),
            active=float(active.mean()),
            active_std=float(active.std()),
            unit_on=self.unit_on.cpu().numpy(),
            bad_step=int(bad[0]) if len(bad) else None,
        )
