"""Training steps recorded once and replayed: on a GPU, launching costs more than computing.

A recorded step reads its mini-batch from fixed memory and writes all that it changes (weights,
momentum, duty cycles, what is measured) in place, so that replaying it is a training step. Nothing
in it waits for the device, and the host does two things a step: it names the rows, and replays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models.mlp import MLP
from utils.engine.dense import DenseEngine
from utils.meter import Meter

WARM_UP = 3  # steps taken normally before one is recorded: libraries choose their algorithms then


class Recorder(Protocol):
    """Runs steps so that they can be recorded, records one, and replays it."""

    def warm_up(self, step: Callable[[], None]) -> None:
        """Take a step as it is."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """What repeats the step when called; the step is recorded, not taken."""


class CudaRecorder:
    """CUDA graphs: https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], None]) -> None:
        """Take a step on a side stream, as recording wants it."""
        self.side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.side):
            step()
        torch.cuda.current_stream(self.device).wait_stream(self.side)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record the step in a graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.side):
            step()
        return graph.replay


@dataclass
class _Recorded:
    """A step for one head, view and size of mini-batch."""

    key: tuple[int, int | None, int]
    samples: Samples
    taken: int = 0
    replay: Callable[[], None] | None = None


class ReplayEngine(DenseEngine):
    """The dense engine with recorded steps.

    A new task (another head, or another permutation) is recorded anew, and so is the first epoch
    with more steps than any before it. A short last mini-batch is taken as it is. Where a step
    cannot be recorded a warning says so, and every step is taken as it is.
    """

    name = "dense, replayed"

    def __init__(
        self,
        exp: Experiment,
        model: MLP,
        stream: TaskStream,
        device: torch.device,
        recorder: Recorder,
    ) -> None:
        super().__init__(exp, model, stream, device)
        self.recorder = recorder
        self.records = True
        self.steps = 0
        self.recorded: _Recorded | None = None

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.net.train()
        if steps > self.steps:
            self.meter = Meter(steps, self.units, self.device)
            self.steps, self.recorded = steps, None
        else:
            self.meter.reset()

    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures."""
        if not self.records or len(samples) != self.exp.mb_size:
            return super().step(samples, head)
        recorded = self._recording(samples, head)
        recorded.samples.rows.copy_(samples.rows)
        if isinstance(samples.view, Tensor) and isinstance(recorded.samples.view, Tensor):
            recorded.samples.view.copy_(samples.view)
        if recorded.taken == WARM_UP:
            self._record(recorded, head)
        if recorded.replay is not None:
            return recorded.replay()
        recorded.taken += 1
        return self.recorder.warm_up(lambda: super(ReplayEngine, self).step(recorded.samples, head))

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """Multiply the gradients of these parameters; the step is recorded anew."""
        super().slow(factors)
        self.recorded = None

    def _recording(self, samples: Samples, head: int) -> _Recorded:
        """The recording for such samples: the one there is, or a new one."""
        view = samples.view if isinstance(samples.view, int) else None
        key = (head, view, len(samples))
        if self.recorded is None or self.recorded.key != key:
            fixed = view if view is not None else torch.zeros_like(samples.rows)
            self.recorded = _Recorded(key, Samples(torch.zeros_like(samples.rows), fixed))
        return self.recorded

    def _record(self, recorded: _Recorded, head: int) -> None:
        self.model.zero_grad(set_to_none=True)  # gradients then live in the recording's memory
        recorded.taken += 1
        try:
            recorded.replay = self.recorder.record(
                lambda: super(ReplayEngine, self).step(recorded.samples, head)
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"training steps cannot be recorded and are launched one by one: {reason}",
                stacklevel=2,
            )
            self.records, self.why_not_faster = False, f"steps cannot be recorded: {reason}"
            self.model.zero_grad(set_to_none=True)
