"""Training steps recorded once and replayed: on a GPU, launching costs more than computing.

A recorded step reads its mini-batch from fixed memory and writes all that it changes (weights,
momentum, duty cycles, what is measured) in place, so that replaying it is a training step. Nothing
in it waits for the device, and the host does two things a step: it names the rows, and replays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from models.network import Network
from utils.engines.base import Spring
from utils.engines.batch import Batch, Loss
from utils.engines.fused import FusedEngine
from utils.engines.meter import Meter

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
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            # Other threads may use the card meanwhile, for other networks.
            with torch.cuda.graph(graph, stream=self.side, capture_error_mode="thread_local"):
                step()
        except BaseException:
            torch.cuda.set_stream(before)  # which torch does not, of a graph that is none
            before.wait_stream(self.side)
            raise
        return graph.replay


@dataclass
class _Recorded:
    """A step for mini-batches of one kind: the same heads, views, sizes and weights of parts.
    gradients: of the parameters, in the recording's memory."""

    key: tuple[object, ...]
    batch: Batch  # in fixed memory, to be filled in for every step
    logits: list[Tensor] = field(default_factory=list)
    taken: int = 0
    replay: Callable[[], None] | None = None
    gradients: list[Tensor | None] = field(default_factory=list)


class CudaGraphEngine(FusedEngine):
    """The fused engine with recorded steps.

    A new task (another head, or another permutation) is recorded anew, and so is the first epoch
    with more steps than any before it. A short last mini-batch is taken as it is. Where a step
    cannot be recorded a warning says so, and every step is taken as it is.
    """

    name = "dense, replayed"

    def __init__(
        self,
        exp: Experiment,
        model: Network,
        stream: TaskStream,
        device: torch.device,
        recorder: Recorder,
    ) -> None:
        super().__init__(exp, model, stream, device)
        self.recorder = recorder
        self.records = True
        self.steps = 0
        self.recorded: _Recorded | None = None

    def begin_task(self) -> None:
        """Record anew: losses of methods may read other memory, or compute something else."""
        self.recorded = None

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.net.train()
        if steps > self.steps:
            self.meter = Meter(steps, self.units, self.device)
            self.steps, self.recorded = steps, None
        else:
            self.meter.reset()

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of the optimiser; the logits, part by part, before it."""
        if not self.records or batch.current.size != self.exp.mb_size:
            return super().step(batch, losses)
        recorded = self._recording(batch)
        for fixed, samples in zip(recorded.batch.pictures, batch.pictures, strict=True):
            fixed.fill(samples)

        def step() -> None:
            recorded.logits = super(CudaGraphEngine, self).step(recorded.batch, losses)

        if recorded.taken == WARM_UP:
            self._record(recorded, step)
        if recorded.replay is not None:
            recorded.replay()
            for p, gradient in zip(self.parameters, recorded.gradients, strict=True):
                p.grad = gradient  # a step that was taken as it is has left others
        else:
            recorded.taken += 1
            self.recorder.warm_up(step)
        return recorded.logits

    def scale(self, factors: dict[Tensor, Tensor]) -> None:
        """Multiply the updates of these parameters; the step is recorded anew."""
        super().scale(factors)
        self.recorded = None

    def pull(self, by: str, springs: dict[Tensor, Spring]) -> None:
        """Pull these parameters; the step is recorded anew."""
        super().pull(by, springs)
        self.recorded = None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; the step is recorded anew."""
        super().load_state_dict(state)
        self.recorded = None

    def _recording(self, batch: Batch) -> _Recorded:
        """The recording for such mini-batches: the one there is, or a new one."""
        order = {id(samples): i for i, samples in enumerate(batch.pictures)}
        key: tuple[object, ...] = tuple(
            (*part[1:], part.size, order[id(part.samples)], type(part.samples), view)
            for part in batch.parts
            for view in [part.samples.view if isinstance(part.samples.view, int) else None]
        )
        if self.recorded is None or self.recorded.key != key:
            fixed = [samples.through(torch.zeros_like) for samples in batch.pictures]
            parts = [p._replace(samples=fixed[order[id(p.samples)]]) for p in batch.parts]
            self.recorded = _Recorded(key, Batch(tuple(parts)))
        return self.recorded

    def _record(self, recorded: _Recorded, step: Callable[[], None]) -> None:
        self.model.zero_grad(set_to_none=True)  # gradients then live in the recording's memory
        recorded.taken += 1
        try:
            recorded.replay = self.recorder.record(step)
            recorded.gradients = [p.grad for p in self.parameters]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"training steps cannot be recorded and are launched one by one: {reason}",
                stacklevel=2,
            )
            self.records, self.why_not_faster = False, f"steps cannot be recorded: {reason}"
            self.model.zero_grad(set_to_none=True)
