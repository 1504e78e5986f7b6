"""Pictures that are kept: by row number and view, never as a copy; they are where they are."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.stream import Samples
from utils.methods.base import draws

DRAW = 4  # sets the draws of memories apart from whatever else is drawn from the seed


class Reservoir:
    """A sample of all pictures offered so far, each with the same chance (Vitter, 1985, "Random
    sampling with a reservoir").

    rows, views: int64 [capacity], of which the first `len` are filled; seen: how many were offered.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.rows = torch.zeros(capacity, dtype=torch.int64)
        self.views = torch.zeros(capacity, dtype=torch.int64)
        self.seen = 0
        self.generator = draws(DRAW, seed)

    def __len__(self) -> int:
        return min(self.seen, len(self.rows))

    def offer(self, samples: Samples) -> None:
        """Keep each of them with the chance that it has now."""
        rows = samples.rows.cpu()
        views = samples.view.cpu() if isinstance(samples.view, torch.Tensor) else samples.view
        count = torch.arange(self.seen, self.seen + len(rows))
        # The n-th picture takes place n, or a random one of n + 1 once there is no free place.
        drawn = torch.rand(len(rows), generator=self.generator, dtype=torch.float64) * (count + 1)
        place = torch.where(count < len(self.rows), count, drawn.long())
        for n in (place < len(self.rows)).nonzero().flatten().tolist():  # the last one stays
            self.rows[place[n]] = rows[n]
            self.views[place[n]] = views if isinstance(views, int) else views[n]
        self.seen += len(rows)

    def draw(self, count: int, device: torch.device) -> Samples:
        """So many different ones, or all; device: that of the pictures."""
        some = torch.randperm(len(self), generator=self.generator)[:count]
        return Samples(self.rows[some].to(device), self.views[some].to(device))

    def state(self) -> dict[str, Any]:
        """All of it."""
        state = self.generator.get_state()
        return {"rows": self.rows, "views": self.views, "seen": self.seen, "generator": state}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.rows.copy_(state["rows"])
        self.views.copy_(state["views"])
        self.seen = state["seen"]
        self.generator.set_state(state["generator"])
