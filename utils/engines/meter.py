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
    entropy: float64 [k-winner layers], see `sparsity.entropies`; bad_step: the first step whose
    loss was not finite, or None.
    """

    loss: float
    accuracy: float
    active: float
    active_std: float
    unit_on: np.ndarray
    entropy: np.ndarray
    bad_step: int | None


class Meter:
    """Collects `add`s without waiting for the device; `read` synchronises, once.

    Even the number of the step is kept on the device, so that steps can be replayed there.
    """

    def __init__(self, steps: int, units: int, device: torch.device):
        self.losses = torch.zeros(steps, device=device)
        self.active = torch.full((steps,), torch.nan, device=device)  # of steps not watched
        self.sizes = torch.zeros(steps, dtype=torch.int64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.unit_on = torch.zeros(units, dtype=torch.int64, device=device)
        self.done = torch.zeros(1, dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One mini-batch: its mean loss [], logits [batch, classes], labels int64 [batch]."""
        self.losses.index_copy_(0, self.done, loss.detach().float().view(1))
        self.sizes.index_fill_(0, self.done, len(labels))
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.done += 1

    def add_activity(self, features: Tensor) -> None:
        """The classifier's inputs of the mini-batch that `add` comes next for: [batch, units]."""
        on = features.detach() != 0
        counts = on.sum(0)
        self.unit_on += counts
        self.active.index_copy_(0, self.done, (counts.sum() / on.numel()).view(1))

    def add_winners(self, unit: Tensor, value: Tensor) -> None:
        """The same for features given by the indices [batch, k] of the units and their values."""
        on = value != 0
        self.unit_on.index_add_(0, unit.flatten(), on.long().flatten())
        share = on.sum() / (len(unit) * len(self.unit_on))
        self.active.index_copy_(0, self.done, share.view(1))

    def totals(self) -> dict[str, Tensor]:
        """All that was collected, by name; the memory itself."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def reset(self) -> None:
        """Begin anew, in the same memory."""
        for total in self.totals().values():
            total.zero_()
        self.active.fill_(torch.nan)

    def restore(self, totals: dict[str, Tensor]) -> None:
        """Continue with what `totals` gave in an epoch of at most as many steps."""
        for name, total in self.totals().items():
            saved = totals[name]
            (total[: len(saved)] if saved.dim() else total).copy_(saved)

    def read(self, entropy: np.ndarray) -> EpochRecord:
        """The record of the steps added since the meter was made or reset; entropy as there."""
        done = int(self.done.item())
        losses = self.losses[:done].cpu().double().numpy()
        active = 100 * self.active[:done].cpu().double().numpy()
        sizes = self.sizes[:done].cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        return EpochRecord(
            loss=float((losses * sizes).sum() / sizes.sum()),
            accuracy=int(self.correct.item()) / int(sizes.sum()),
            active=float(active.mean()),
            active_std=float(active.std()),
            unit_on=self.unit_on.cpu().numpy().copy(),  # reset() clears the memory
            entropy=entropy,
            bad_step=int(bad[0]) if len(bad) else None,
        )
