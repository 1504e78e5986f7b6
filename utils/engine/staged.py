"""The engine for networks that change from task to task: it knows when one ends and one begins.

It wraps the engine that computes; what changes is in `utils.dynamic`, a module a mechanism.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models.mlp import MLP
from utils.dynamic import census, growth, old_synapses
from utils.engine.base import PlainEngine
from utils.meter import EpochRecord


class StagedEngine:
    """An engine whose synapses grow or move, and whose old synapses are slow.

    The number of the task is the view of its training pictures. A task ends when another begins, or
    when `end_task` says so.
    """

    def __init__(self, exp: Experiment, stream: TaskStream, inner: PlainEngine) -> None:
        self.exp, self.stream, self.inner = exp, stream, inner
        self.name, self.device, self.units = inner.name, inner.device, inner.units
        self.why_not_faster = inner.why_not_faster
        self.task, self.head, self.done, self.steps = -1, 0, 0, 0
        self._model = inner.model  # for its shape: `model` has the weights as they are now
        whole = exp.context == "none"  # otherwise it is a part, and the whole is counted elsewhere
        tasks, rate = len(stream.training), exp.old_synapse_lr
        self.census = census.Census(self._model, tasks, rate, initial=True) if whole else None
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
        return self.inner.end_epoch()

    def end_task(self) -> None:
        """What the task has used is old from now on."""
        if self.task >= 0 and self.exp.old_synapse_lr < 1:
            model = self.model
            if self.path is not None:
                use = self.path.importance()
            else:
                x = self._pictures(self.task)
                use = old_synapses.activity(model, x, self.head)
            old_synapses.grow_older(model, use, self.exp.old_synapse_rule)
            model.train()
        self.task = -1

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        path = {} if self.path is None else self.path.state()
        place = {"task": self.task, "head": self.head, "done": self.done}
        counted = {} if self.census is None else self.census.state()
        return self.inner.state_dict() | place | {"path": path, "census": counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""
        self.inner.load_state_dict(state)
        self.task, self.head, self.done = state["task"], state["head"], state["done"]
        if self.census is not None:
            self.census.restore(state["census"])
        if self.path is not None:
            self.path.restore(state["path"])
        self._slow()

    def measured(self, task: int) -> dict[str, np.ndarray]:
        """The synapses after each task so far, and the units that it recruited."""
        if self.census is None:
            return {}
        model = self.model
        self.census.take(task, model, census.in_use(model, self._pictures(task)))
        model.train()
        return self.census.measured()

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

    def _pictures(self, task: int) -> Tensor:
        """The first training pictures of a task, float32 [n, channels, height, width]."""
        samples = self.stream.training[task].train.take(slice(old_synapses.PICTURES))
        return self.stream.inputs(self.stream.train, samples).to(self.device)
