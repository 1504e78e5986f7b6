"""Ridge regression: least squares of features on classes, with weights kept small, as if all
pictures of all tasks had come at once (Zhuang et al., 2022, "ACIL: analytic class-incremental
learning with absolute memorization and privacy protection").

How small is set, or chosen by a tenth of the training pictures of the first task, which are then
taken in like all others. A unit of strength is what one picture more weighs, whose features were
all as large as they are in the root of the mean square.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from exps.keys import Key
from exps.kinds import Number
from exps.messages import Told
from utils.engines.base import Engine
from utils.methods import closed
from utils.methods.base import draws
from utils.methods.closed import contradictions, misfits
from utils.methods.distill import AT_A_TIME
from utils.methods.moments import Linear, Moments, solved

__all__ = ["Method", "contradictions", "misfits"]

KEYS = {
    "ridge_strength": Key(
        0.0,
        Number(0, 1e9),
        "how small weights are kept (λ), in pictures; 0: what is best for a tenth of the training "
        "pictures of the first task",
    ),
}
STRENGTHS = tuple(10.0**n for n in range(-1, 6))  # that are tried
HELD = 0.1  # share of the first task's pictures that they are tried on
DRAW = 12  # sets the draw of these apart from whatever else is drawn from the seed
CURE = "choose a larger ridge_strength"


class Method(closed.Closed):
    """strength: λ, 0 until it is chosen; held: bool [all training pictures], true for those of the
    first task that it is chosen by."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.strength = exp.ridge_strength
        rows = stream.training[0].train.rows
        drawn = torch.randperm(len(rows), generator=draws(DRAW, exp.seed))
        chosen = rows[drawn[: math.ceil(HELD * len(rows))].to(rows.device)]
        self.held = torch.zeros(len(stream.train.x), dtype=torch.bool, device=rows.device)
        self.held[chosen] = True

    def read(self, engine: Engine, samples: Samples, task: int) -> None:
        """Take in some pictures of the task, but those that the strength is chosen by."""
        if not self.strength:
            samples = samples.take(~self.held[samples.rows])
        if len(samples):
            super().read(engine, samples, task)

    def end_task(self, engine: Engine, task: int) -> None:
        """After the first task, choose the strength, and take in the pictures that it took."""
        if not self.strength:
            train = self.stream.training[task].train
            held = train.take(self.held[train.rows])
            moments = self.moments[self.stream.training[task].head]
            self.strength = best(moments, *self.seen(engine, held))
            for some in held.split(AT_A_TIME):
                self.read(engine, some, task)
        super().end_task(engine, task)

    def solve(self, moments: Moments, device: torch.device) -> Linear:
        """Of all pictures so far, with the strength that there is."""
        return fitted(moments, self.strength, device)

    def result(self) -> dict[str, np.ndarray]:
        """The strength."""
        return {"ridge_strength": np.array([self.strength])}

    def state(self) -> dict[str, Any]:
        """The strength too."""
        return super().state() | {"strength": self.strength}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        super().restore(state)
        self.strength = state["strength"]


def fitted(moments: Moments, strength: float, device: torch.device) -> Linear:
    """Least squares about the means: W = (Σ (f - m)(f - m)ᵀ + λ s I)⁻¹ Σ (f - m)(y - n)ᵀ and
    b = n - mᵀ W; s: the mean square of a feature; y: one for the class, else zero, with the
    mean n."""
    count = max(int(moments.counts.sum()), 1)
    mean, shares = moments.sums.sum(0) / count, moments.counts / count
    scatter = moments.scatter(torch.tensor([count]), mean.unsqueeze(0))
    size = float(scatter.diagonal().mean() / count + mean.square().mean()) or 1.0
    right = moments.sums.t() - mean.unsqueeze(1) * moments.counts
    weight = solved(scatter, strength * size, right, CURE)
    return moments.classifier(weight, shares - mean @ weight, device)


def best(moments: Moments, features: Tensor, labels: Tensor) -> float:
    """The strength with which most of these pictures are classified rightly, and of several the
    one with the smallest squared error; of those with which there is a solution. Raises Told where
    there is none."""
    found, labels = list[tuple[int, float, float]](), labels.to(features.device)
    for strength in STRENGTHS:
        try:
            scores = fitted(moments, strength, features.device).scores(features)
        except Told:
            if strength == STRENGTHS[-1] and not found:
                raise
            continue
        wanted = torch.nn.functional.one_hot(labels, scores.shape[1]).to(scores)
        wrong = int((scores.argmax(1) != labels).sum())
        scores = scores.masked_fill(scores.isinf(), 0)
        found.append((wrong, float((scores - wanted).square().sum()), strength))
    return min(found)[2]
