"""Contexts: each task has units of its own, and a picture finds its task by itself.

The context of a picture is the task whose training pictures have the nearest mean (Iyer et al.,
2022, "Avoiding Catastrophe: Active Dendrites Enable Multi-Task Learning in Dynamic Environments").
Which units may win in a context is settled when its task begins. No training picture is kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DRAW = 2  # sets the draws of units apart from whatever else is drawn from the seed


class Contexts:
    """The contexts of a stream of tasks, filled in one after the other.

    units: int64 [tasks, layers, size], the units of each hidden layer that may win, in order; total
    float64 [tasks, inputs] and count int64 [tasks]: sum and number of training pictures, whose
    ratio is the prototype; known: int64 [], how many tasks have begun.
    """

    def __init__(
        self,
        tasks: int,
        inputs: int,
        layers: int,
        *,
        width: int,
        size: int,
        overlap: float,
        device: torch.device,
    ) -> None:
        """size of the `width` units of each layer; overlap: the share taken over from old ones;
        device: that of the pictures, which are summed up there."""
        self.width, self.shared = width, round(size * overlap)
        self.units = torch.zeros(tasks, layers, size, dtype=torch.int64)
        self.total = torch.zeros(tasks, inputs, dtype=torch.float64, device=device)
        self.count = torch.zeros(tasks, dtype=torch.int64)
        self.known = torch.zeros((), dtype=torch.int64)

    def recruit(self, duty_cycles: list[Tensor], seed: int) -> None:
        """Begin the next context: of each layer, by the duty cycles [width] of its units.

        First the shared ones, among the units of earlier contexts, then the others: those in the
        fewest contexts, of these the ones that won least, and of these some at random.
        """
        task = int(self.known)
        draw = np.random.SeedSequence([seed, DRAW, task]).generate_state(1, np.uint64).item()
        generator = torch.Generator().manual_seed(draw)
        for layer, duty_cycle in enumerate(duty_cycles):
            contexts = self.units[:task, layer].flatten().bincount(minlength=self.width)
            chance = torch.rand(self.width, generator=generator).numpy()
            order = torch.from_numpy(np.lexsort((chance, duty_cycle.cpu().numpy(), contexts)))
            old = contexts[order] > 0
            shared = order[old][: self.shared]
            others = order[~torch.isin(order, shared)][: self.units.shape[2] - len(shared)]
            chosen = torch.cat([shared, others]).sort().values
            self.units[task, layer] = chosen
        self.known += 1

    def learn(self, task: int, x: Tensor) -> None:
        """Count training pictures x [batch, inputs] in the prototype of their task."""
        self.total[task] += x.sum(0)
        self.count[task] += len(x)

    def prototypes(self) -> Tensor:
        """The mean training picture of each known task, float32 [known, inputs]."""
        known = int(self.known)
        count = self.count[:known].to(self.total.device)
        return (self.total[:known] / count.unsqueeze(1)).float()

    def state(self) -> dict[str, Tensor]:
        """All of it, by name; the memory itself."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken."""
        for name, value in self.state().items():
            value.copy_(state[name])


def nearest(x: Tensor, prototypes: Tensor) -> Tensor:
    """Which prototype [n, inputs] is nearest to each of x [batch, inputs]: int64 [batch]."""
    # |x - p|² without |x|², which is the same for all p.
    distance = (prototypes * prototypes).sum(1) - 2 * x @ prototypes.t()
    return distance.argmin(1)
