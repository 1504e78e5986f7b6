"""What a network that changes has after each task: its synapses by birth and by age, how fast they
learn, and the units that were recruited.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.network import Network, evaluating
from models.synapses import Where, fully_connected
from sparse_syn.sparse_weights import synapses
from utils.engines.base import Engine
from utils.engines.subnet import places
from utils.methods import base, old_synapses

QUARTERS = (0.0, 0.25, 0.5, 0.75)  # ages are counted at 0, up to each of the others, below 1, at 1
BATCH = 256  # pictures at a time
SHARE = 0.5  # of how often the units of a layer are on in the mean: from there on one is in use


class Method(base.Method):
    """Counts the synapses of each fully connected layer (hidden, then classifiers) after each task.

    A synapse is a weight that is not masked; where tasks have parts of the network (`exp.parts`),
    one of some part, which has all classifiers in contexts and otherwise the task's own. Tasks
    count from 1 in born: int16 [outputs, inputs] of each layer, the task since whose end
    a synapse has been there, 0 where it was before all tasks, -1 where there is none; and in first:
    int16 [units] of each hidden layer, the first task that had a unit in use, or 0. What was
    counted is [tasks, layers, ...]: see `result`.
    """

    def prepare(self, model: Network) -> None:
        """Begin with the synapses that there are before the first task."""
        if hasattr(self, "born"):  # the network is a part of the one that is counted
            return
        layers, self.known = fully_connected(model), 0
        self.born = [torch.full_like(w.weight, -1, dtype=torch.int16) for w in layers]
        for layer, born in zip(layers, self.born, strict=True):
            if not self.exp.parts:
                born.masked_fill_(synapses(layer.weight, layer.zero_mask), 0)
        hidden = layers[: len(model.blocks)]
        self.first = [torch.zeros(len(w.weight), dtype=torch.int16) for w in hidden]
        self.weights = torch.tensor([w.weight.numel() for w in layers])
        self.ages = "old_synapses" in self.exp.all_methods
        tasks = len(self.stream.training)
        shape = tasks, len(layers)
        self.by_birth = torch.zeros(*shape, tasks + 1, dtype=torch.int64)
        self.by_age = torch.zeros(*shape, len(QUARTERS) + 2, dtype=torch.int64)
        self.frozen = torch.zeros(shape, dtype=torch.float64)
        self.rates = torch.zeros(shape, dtype=torch.float64)
        self.fresh = torch.zeros(tasks, len(hidden), dtype=torch.int64)

    @torch.no_grad()
    def end_task(self, engine: Engine, task: int) -> None:
        """Count; twice is the same as once."""
        model, units = engine.model, engine.units_of(task)
        device = self.born[0].device
        if units is None:
            x = old_synapses.pictures(self.stream, task).to(engine.device)
            used = in_use(model, x)
            where: list[Where] = [()] * len(self.born)
        else:
            units = [own.to(device) for own in units]
            hidden = [block.linear for block in model.blocks]
            mine = [units[wire.writes] for wire in model.wires if wire.module in hidden]
            used = [
                torch.zeros_like(first, dtype=torch.bool).index_fill(0, own, True)
                for own, first in zip(mine, self.first, strict=True)
            ]
            found = places(model, units)
            where = [found[layer.weight] for layer in fully_connected(model)]
            if "contexts" not in self.exp.all_methods or self.exp.context == "given":
                own = len(model.blocks) + self.stream.training[task].head
                nowhere = (slice(0, 0),)
                others = range(len(model.blocks), len(where))
                where = [nowhere if i in others and i != own else w for i, w in enumerate(where)]
        self.known = task + 1
        for i, (now, first) in enumerate(zip(used, self.first, strict=True)):
            first.masked_fill_(now.to(device) & (first == 0), task + 1)
            self.fresh[task, i] = int((first == task + 1).sum())
        slowed = old_synapses.factors(model, self.exp.old_synapse_lr) if self.ages else {}
        aged = old_synapses.ages(model)
        for i, layer in enumerate(fully_connected(model)):
            born, place = self.born[i], where[i]
            known = born[place]
            there = synapses(layer.weight, layer.zero_mask)[place]
            born[place] = known.masked_fill(known < 0, task + 1).masked_fill(~there, -1)
            factors = slowed[layer.weight] if slowed else torch.ones_like(layer.weight)
            rates = torch.zeros_like(factors)
            rates[place] = factors[place]
            self._count(task, i, rates, aged.get(layer.weight))

    def result(self) -> dict[str, np.ndarray]:
        """What belongs into a result, of the tasks trained so far: see docs/results.md."""
        counts = self.by_birth[: self.known].sum(2)
        found = {
            "weights": self.weights,
            "synapses": counts,
            "density": counts.double() / self.weights,
            "synapses_by_birth": self.by_birth[: self.known],
            "frozen_synapses": self.frozen[: self.known],
            "learning_rate_factor": self.rates[: self.known],
            "fresh_units": self.fresh[: self.known],
        }
        if self.ages:
            found["synapses_by_age"] = self.by_age[: self.known]
        return {name: count.numpy().copy() for name, count in found.items()}

    def state(self) -> dict[str, Any]:
        """All of it; the memory itself."""
        counts = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {"known": self.known, "born": self.born, "first": self.first, "counts": counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        mine = self.state()
        self.known = state["known"]
        for name in ("born", "first"):
            for one, saved in zip(mine[name], state[name], strict=False):  # there may be new heads
                base.fill(one, saved)
        for name in ("by_birth", "by_age", "frozen", "rates", "fresh"):
            base.fill(mine["counts"][name], state["counts"][name])

    def _count(self, task: int, i: int, rates: Tensor, used: Tensor | None) -> None:
        """Count the synapses of layer i; rates: the learning-rate factors of its weights; used: how
        old they are, or None."""
        there = self.born[i] >= 0
        births = self.born[i][there].bincount(minlength=self.by_birth.shape[2])
        self.by_birth[task, i] = births.cpu()
        rates = rates[there]
        if len(rates):
            self.frozen[task, i] = float((rates == 0).double().mean())
            self.rates[task, i] = float(rates.double().mean())
        if used is not None:
            self.by_age[task, i] = _ages(used[there]).cpu()


def in_use(model: Network, x: Tensor) -> list[Tensor]:
    """Which units of each hidden layer pictures x keep in use: bool [units].

    Those that are on for at least half as many pictures as the units of the layer are in the mean.
    Activations are those of testing.
    """
    layers = fully_connected(model)[: len(model.blocks)]
    counts = [layer.weight.new_zeros(len(layer.weight), dtype=torch.int64) for layer in layers]
    handles = [
        block.activation.register_forward_hook(partial(_count_on, count))
        for block, count in zip(model.blocks, counts, strict=True)
    ]
    with torch.no_grad(), evaluating(model):
        for part in x.split(BATCH):
            model.features(part)
    for handle in handles:
        handle.remove()
    return [(count > 0) & (count >= SHARE * count.double().mean()) for count in counts]


def _count_on(count: Tensor, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """A hook of an activation: how many pictures each unit [units] is on for."""
    count += (output != 0).sum(0)


def _ages(used: Tensor) -> Tensor:
    """How many have age 0, up to ¼, ½ and ¾, below 1, and 1: int64 [6]."""
    edges = torch.tensor(QUARTERS, device=used.device)
    place = torch.bucketize(used, edges) + (used == 1)
    return place.bincount(minlength=len(QUARTERS) + 2)
