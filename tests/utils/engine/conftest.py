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
from models.mlp import MLP
from utils.engine import make_engine
from utils.engine.base import Engine
from utils.engine.reference import ReferenceEngine
from utils.engine.sparse import SparseEngine
from utils.meter import EpochRecord

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


class SideBySide:
    """The reference engine and the one that an experiment names, in double precision or single.

    In double precision rounding stays so small that both choose the same winners, always.
    """

    def __init__(self, exp: Experiment, stream: TaskStream, dtype: torch.dtype) -> None:
        torch.manual_seed(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        if dtype == torch.float64:
            stream = DoubleStream(**{f.name: getattr(stream, f.name) for f in fields(stream)})
            for p in model.parameters():
                p.data = p.data.double()
        self.exp, self.stream, self.masks = exp, stream, Masks(exp.dropout)
        twin = copy.deepcopy(model)
        self.reference = ReferenceEngine(exp, self._given_masks(model), stream, CPU)
        self.other: Engine
        if exp.engine == "sparse":
            self.other = SparseEngine(exp, twin, stream)
            self.other.keep = lambda layer, unit: self._of_winners(twin, layer, unit).to(dtype)
        else:
            self.other = make_engine(exp, self._given_masks(twin), stream, CPU)
        if dtype == torch.float64:
            for head in (*model.heads, *twin.heads):
                head.register_forward_hook(lambda _, __, out: out.as_subclass(Logits))

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.reference, self.other

    def epoch(self, task: Task) -> tuple[EpochRecord, EpochRecord]:
        """Train both on the task's pictures, once; the last mini-batch may be short."""
        starts = range(0, len(task.train), self.exp.mb_size)
        for engine in self.engines:
            engine.begin_epoch(len(starts))
        for start in starts:
            samples = task.train.take(slice(start, start + self.exp.mb_size))
            for engine in self.engines:
                engine.step(samples, task.head)
            self.masks.step += 1
        one, two = (engine.end_epoch() for engine in self.engines)
        return one, two

    def parameters(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Every parameter and buffer of both models."""
        other = self.other.model.state_dict()
        for name, value in self.reference.model.state_dict().items():
            yield name, value, other[name]

    def momenta(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The momenta of every parameter in both engines; those that did not begin are left out."""
        twins = dict(self.other.model.named_parameters())
        for name, p in self.reference.model.named_parameters():
            state = self.reference.optimizer.state[p]
            if "momentum_buffer" in state:
                yield name, state["momentum_buffer"], self._momentum(name, twins[name])

    def _momentum(self, name: str, p: Tensor) -> Tensor:
        if not isinstance(self.other, SparseEngine):
            return self.other.optimizer.state[p]["momentum_buffer"]  # type: ignore[attr-defined]
        for layer in self.other.hidden:
            if layer.weights.weight is p:
                return layer.matrix.momentum().t()
        return self.other.sgd.momentum(p)

    def _given_masks(self, model: MLP) -> MLP:
        for layer, block in enumerate(model.blocks):
            block.dropout = Given(self.masks, layer)  # type: ignore[assignment]
        return model

    def _of_winners(self, model: MLP, layer: int, unit: Tensor) -> Tensor:
        width = model.blocks[layer].activation.n
        return self.masks.of(layer, torch.Size((len(unit), width))).gather(1, unit)


@pytest.fixture
def side_by_side() -> Callable[..., SideBySide]:
    """Builds the pair for an experiment, a stream and a dtype."""
    return SideBySide
