"""The reference engine: the model as written, autograd and torch's SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.stream import Pictures, Samples, TaskStream
from exps.config import Experiment
from models.mlp import MLP
from models.sparse import SparseWeightsBase, update_boost_strength
from utils.engine.mixed import PLAIN, plain
from utils.meter import EpochRecord, Meter
from utils.sparsity import entropies


class ReferenceEngine:
    """Trains any model; what the other engines are compared with.

    The pictures may live on another device than the model: a mini-batch is gathered where they are.
    """

    name = "reference"

    def __init__(
        self, exp: Experiment, model: MLP, stream: TaskStream, device: torch.device
    ) -> None:
        self.exp, self.model, self.stream, self.device = exp, model.to(device), stream, device
        self.units, self.why_not_faster = model.units, ""
        self.net = self.model  # what is computed
        self.factors: dict[Tensor, Tensor] = {}  # see `slow`
        self._begin()

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.net.train()
        self.meter = Meter(steps, self.units, self.device)

    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures."""
        x, labels = self._batch(self.stream.train, samples)
        with self._precision():
            features = self.net.features(x)
            logits = self.net.heads[head](features).float()
        loss = cross_entropy(logits, labels)
        # Without a gradient the other heads stay as they are.
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        self._update()
        if self.exp.record_stats:
            self.meter.add_activity(features)
        self.meter.add(loss, logits, labels)

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        self.model.apply(update_boost_strength)
        return self.meter.read(entropies(self.model))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        momenta = self._momenta()
        parameters = dict(self.model.named_parameters())
        return {
            "model": self.model.state_dict(),
            "momentum": {name: momenta[p] for name, p in parameters.items() if p in momenta},
            "mix": dict.fromkeys(parameters, PLAIN),
            "meter": self.meter.totals(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""
        state = plain(state)
        self.model.load_state_dict(state["model"])
        parameters = dict(self.model.named_parameters())
        momenta = self._momenta()
        for name, momentum in state["momentum"].items():
            momenta[parameters[name]].copy_(momentum)
        self.meter.restore(state["meter"])

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """From now on multiply the gradients of these parameters."""
        self.factors = factors

    def restart(self) -> None:
        """Momentum starts from zero."""
        for momentum in self._momenta().values():
            momentum.zero_()

    @torch.no_grad()
    def follow_masks(self) -> None:
        """What the masks hide is zero, and has no momentum."""
        momenta = self._momenta()
        for layer in self.model.modules():
            if isinstance(layer, SparseWeightsBase):
                layer.rezero_weights()
                if layer.weight in momenta:
                    momenta[layer.weight].masked_fill_(layer.zero_mask, 0)

    def measured(self, task: int) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def contexts_right(self, task: int) -> Tensor | None:
        """There are no contexts."""
        return None

    @torch.no_grad()
    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, in evaluation mode, and their labels int64 [n]."""
        self.net.eval()
        x, labels = self._batch(self.stream.test, samples)
        with self._precision():
            logits = self.net(x, head)
        return logits.float(), labels

    def _begin(self) -> None:
        """Make the optimiser."""
        exp = self.exp
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=exp.lr,
            momentum=exp.momentum,
            nesterov=exp.nesterov,
            weight_decay=exp.weight_decay,
        )
        if exp.momentum:  # from zero, as torch's first step does it
            for p in self.model.parameters():
                self.optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)

    def _momenta(self) -> dict[Tensor, Tensor]:
        """The momentum of every parameter that has one."""
        found = self.optimizer.state.items()
        return {p: s["momentum_buffer"] for p, s in found if "momentum_buffer" in s}

    def _update(self) -> None:
        """Step all parameters that have a gradient."""
        for p, factor in self.factors.items():
            if p.grad is not None:
                p.grad.mul_(factor)
        self.optimizer.step()

    def _precision(self) -> torch.autocast:
        half = self.exp.precision == "bf16"
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False
        )

    def _batch(self, pictures: Pictures, samples: Samples) -> tuple[Tensor, Tensor]:
        x = self.stream.inputs(pictures, samples).to(self.device, non_blocking=True)
        labels = self.stream.labels(pictures, samples).to(self.device, non_blocking=True)
        return x, labels
