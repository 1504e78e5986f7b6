"""Two engines side by side: the same weights, mini-batches and dropout, so the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from benchmarks.stream import Pictures, Samples, Task, TaskStream
from exps.config import Experiment
from models import make_model
from utils.engines.autograd import AutogradEngine
from utils.engines.batch import Batch
from utils.engines.meter import EpochRecord
from utils.engines.winners.engine import SparseEngine
from utils.engines.winners.lazy import LazyMatrix

CPU = torch.device("cpu")


class DoubleStream(TaskStream):
    """A stream of pictures in double precision."""

    def inputs(self, pictures: Pictures, samples: Samples) -> Tensor:
        return super().inputs(pictures, samples).double()


class Logits(Tensor):
    """Logits that stay in double precision when they are asked for in single precision."""

    def float(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


class Given(nn.Module):
    """Dropout with the masks of the current step."""

    def __init__(self, masks: Masks, layer: int) -> None:
        super().__init__()
        self.masks, self.layer = masks, layer

    def forward(self, x: Tensor) -> Tensor:
        return x * self.masks.of(self.layer, x.shape).to(x.dtype) if self.training else x


class Masks:
    """The dropout masks of every step and layer: factors 0 or 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        self.p, self.step = p, 0

    def of(self, layer: int, shape: torch.Size) -> Tensor:
        generator = torch.Generator().manual_seed(100 * self.step + layer)
        return (torch.rand(shape, generator=generator) >= self.p) / (1 - self.p)


def momentum_of(matrix: LazyMatrix) -> Tensor:
    """All momenta of the lazy matrix [rows, columns]; zeros without momentum."""
    scales = zip(matrix.parts, matrix.scale, matrix.basis.slope, strict=False)
    return torch.stack([part * (scale * slope) for part, scale, slope in scales]).sum(0)


class SideBySide:
    """The reference engine and the sparse one, in double precision or single.

    In double precision rounding stays so small that both choose the same winners, always.
    """

    def __init__(self, exp: Experiment, stream: TaskStream, dtype: torch.dtype) -> None:
        torch.manual_seed(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        if dtype == torch.float64:
            stream = DoubleStream(**{f.name: getattr(stream, f.name) for f in fields(stream)})
            for p in model.parameters():
                p.data = p.data.double()
        self.exp, self.stream, self.masks, self.dtype = exp, stream, Masks(exp.dropout), dtype
        self.sparse = SparseEngine(exp, copy.deepcopy(model), stream)
        self.sparse.keep = self._of_winners
        for layer, block in enumerate(model.blocks):
            block.dropout = Given(self.masks, layer)  # type: ignore[assignment]
        self.reference = AutogradEngine(exp, model, stream, CPU)
        if dtype == torch.float64:
            for head in model.heads:
                head.register_forward_hook(lambda _, __, out: out.as_subclass(Logits))

    @property
    def engines(self) -> tuple[AutogradEngine, SparseEngine]:
        return self.reference, self.sparse

    def epoch(self, task: Task) -> tuple[EpochRecord, EpochRecord]:
        """Train both on the task's pictures, once; the last mini-batch may be short."""
        starts = range(0, len(task.train), self.exp.mb_size)
        for engine in self.engines:
            engine.begin_epoch(len(starts))
        for start in starts:
            samples = task.train.take(slice(start, start + self.exp.mb_size))
            for engine in self.engines:
                engine.step(Batch.of(samples, task.head))
            self.masks.step += 1
        one, two = (engine.end_epoch() for engine in self.engines)
        return one, two

    def state(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Every parameter and buffer of both models, and the momenta that began in both engines."""
        model, twin = self.reference.model, self.sparse.model
        buffers = twin.state_dict()
        for name, value in model.state_dict().items():
            yield name, value, buffers[name]
        parameters = dict(twin.named_parameters())
        for name, p in model.named_parameters():
            momentum = self.reference.optimizer.state(p).get("momentum")
            if momentum is not None:
                yield f"momentum of {name}", momentum, self._momentum(parameters[name])

    def _momentum(self, p: Tensor) -> Tensor:
        first = self.sparse.first
        if first.matrix is not None and first.weights.weight is p:
            return momentum_of(first.matrix)
        for layer in self.sparse.hidden:
            if layer.weights.weight is p:
                return momentum_of(layer.matrix).t()
        return self.sparse.sgd.momentum(p)

    def _of_winners(self, layer: int, unit: Tensor) -> Tensor:
        shape = torch.Size((len(unit), self.exp.hidden_units))
        return self.masks.of(layer, shape).gather(1, unit).to(self.dtype)


@pytest.fixture
def side_by_side() -> Callable[..., SideBySide]:
    """Builds the pair for an experiment, a stream and a dtype."""
    return SideBySide
