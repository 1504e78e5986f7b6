"""The engine for networks that change from task to task: it knows when one ends and one begins.

It wraps the engine that computes; what changes is in `utils.dynamic`, a module a mechanism.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models.mlp import MLP
from utils.dynamic import growth, old_synapses
from utils.engine.base import Engine
from utils.meter import EpochRecord


class StagedEngine:
    """An engine whose synapses grow or move, and whose old synapses are slow.

    The number of the task is the view of its training pictures. A task ends when another begins, or
    when `end_task` says so.
    """

    def __init__(self, exp: Experiment, stream: TaskStream, inner: Engine) -> None:
        self.exp, self.stream, self.inner = exp, stream, inner
        self.name, self.device, self.units = inner.name, inner.device, inner.units
        self.task, self.head, self.done, self.steps = -1, 0, 0, 0
        shape = len(stream.training), len(old_synapses.layers(inner.model))
        self.synapses = torch.zeros(shape, dtype=torch.int64)  # of each layer, after each task
        self.old = torch.zeros(shape, dtype=torch.float64)  # the share of them that has age 1
        self._model = inner.model  # for its shape: `model` has the weights as they are now
        by_path = exp.old_synapse_lr < 1 and exp.old_synapse_rule == "importance"
        self.path = old_synapses.Path(inner.model) if by_path else None

    @property
    def model(self) -> MLP:
        """The model, with the weights as they are now."""
        return self.inner.model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.steps = steps
        self.inner.begin_epoch(steps)

    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures of one task."""
        assert isinstance(samples.view, int), "a task at a time"
        if samples.view != self.task:
            self.end_task()
            self.task, self.head = samples.view, head
            self._begin_task()
        if self.exp.dynamic != "none":
            self._change_synapses(samples)
        self.inner.step(samples, head)
        self.done += 1
        if self.path is not None:
            self.path.add()

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        for i, layer in enumerate(old_synapses.layers(self._model)):
            there = layer.weight.numel()
            if layer.zero_mask is not None:
                there -= int(layer.zero_mask.sum())
            self.synapses[self.task, i] = there
            if layer.used is not None:
                self.old[self.task, i] = int((layer.used == 1).sum()) / there
        return self.inner.end_epoch()

    def end_task(self) -> None:
        """What the task has used is old from now on."""
        if self.task >= 0 and self.exp.old_synapse_lr < 1:
            model = self.model
            if self.path is not None:
                use = self.path.importance()
            else:
                x = self._pictures(old_synapses.PICTURES)
                use = old_synapses.activity(model, x, self.head)
            old_synapses.grow_older(model, use, self.exp.old_synapse_rule)
            model.train()
        self.task = -1

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        path = {} if self.path is None else self.path.state()
        place = {"task": self.task, "head": self.head, "done": self.done}
        counts = {"synapses": self.synapses, "old": self.old, "path": path}
        return self.inner.state_dict() | place | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""
        self.inner.load_state_dict(state)
        self.task, self.head, self.done = state["task"], state["head"], state["done"]
        self.synapses.copy_(state["synapses"])
        self.old.copy_(state["old"])
        if self.path is not None:
            self.path.restore(state["path"])
        self._slow()

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """Multiply the gradients of these parameters."""
        self.inner.slow(factors)

    def restart(self) -> None:
        """Momentum starts from zero."""
        self.inner.restart()

    def follow_masks(self) -> None:
        """The masks have changed."""
        self.inner.follow_masks()

    def measured(self) -> dict[str, np.ndarray]:
        """How many synapses each layer has and how many are old, after each task."""
        return {"synapses": self.synapses.numpy().copy(), "old_synapses": self.old.numpy().copy()}

    def contexts_right(self, task: int) -> Tensor | None:
        """There are no contexts."""
        return self.inner.contexts_right(task)

    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, in evaluation mode, and their labels int64 [n]."""
        return self.inner.logits(samples, head)

    def _begin_task(self) -> None:
        self.done = 0
        if self.exp.old_synapse_lr < 1:
            self.inner.restart()
            self._slow()
        if self.path is not None:
            self.path = old_synapses.Path(self.model)

    def _change_synapses(self, samples: Samples) -> None:
        """Let synapses grow or move if it is time, as the mini-batch that comes next says."""
        exp = self.exp
        now = growth.Moment(self.done, self.steps, exp.epochs_of(self.task) * self.steps)
        if not growth.is_due(exp, now, self._model):
            return
        model = self.model
        x = self.stream.inputs(self.stream.train, samples).to(self.device)
        labels = self.stream.labels(self.stream.train, samples).to(self.device)
        kind = {"grow": exp.grow_by, "set": "random", "rigl": "gradient"}[exp.dynamic]
        fresh = exp.dynamic == "grow" and exp.grow_units == "fresh"
        found = growth.scores(kind, model, x, labels, self.head, fresh=fresh)
        generator = growth.draws(exp.seed, self.task, self.done)
        for block, score in zip(growth.blocks(model), found, strict=True):
            growth.change(exp, now, block, score, generator)
        self.inner.follow_masks()
        model.train()

    def _slow(self) -> None:
        if self.exp.old_synapse_lr < 1:
            self.inner.slow(old_synapses.factors(self.model, self.exp.old_synapse_lr))

    def _pictures(self, most: int) -> Tensor:
        """The first training pictures of the task, float32 [n, inputs]."""
        samples = self.stream.training[self.task].train.take(slice(most))
        return self.stream.inputs(self.stream.train, samples).flatten(1).to(self.device)
