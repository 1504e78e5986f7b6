"""The engine for contexts: in each only its units may win, so only their part is computed.

Every context is a small network, a part of the model, and trained by the engine that is best for
it: a step costs what the units of the context cost, not those of the whole layer. Weights, momentum
and decay of all others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models import make_model
from models.functional import binary_entropy
from models.mlp import MLP
from utils.dynamic import census
from utils.dynamic.context import Contexts, nearest
from utils.engine.base import Engine
from utils.engine.staged import StagedEngine
from utils.engine.subnet import Subnet, places
from utils.engine.weights import Weights, k_winners
from utils.meter import EpochRecord


class ContextEngine:
    """Trains the part of the current task, and tests each picture with the part of its context.

    build: makes the engine of a part. Momentum starts from zero in every context, and each has
    biases of the classifiers of its own; those of the model stay as they were made. prototypes,
    testers and whole: made when they are first needed after a step; found: the contexts of the
    pictures tested last.
    """

    prototypes: Tensor | None
    whole: Engine | None
    found: Tensor

    def __init__(
        self,
        exp: Experiment,
        model: MLP,
        stream: TaskStream,
        device: torch.device,
        build: Callable[[MLP], Engine],
    ) -> None:
        self.exp, self.stream, self.device, self.build = exp, stream, device, build
        self._model, self.units = model.to(device), model.units
        tasks, layers = len(stream.training), len(model.blocks)
        self.contexts = Contexts(
            tasks,
            int(np.prod(stream.input_shape)),
            layers,
            width=exp.hidden_units,
            size=exp.context_units,
            overlap=exp.context_overlap,
            device=device,
        )
        self.census = census.Census(self._model, tasks, exp.old_synapse_lr, initial=False)
        self.template = _template(exp, stream, model).to(device)
        self.biases = [
            torch.stack([Weights.of(head).bias.detach()] * tasks) for head in model.heads
        ]
        self.current = -1  # the context that is trained
        self._enter(torch.arange(exp.context_units).expand(layers, -1))
        self.name = f"{self.inner.name}, by context"
        self.why_not_faster = self.inner.why_not_faster
        self._forget_tests()

    @property
    def model(self) -> MLP:
        """The model, with the weights as they are now."""
        self._write_back()
        return self._model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.steps = steps
        self.inner.begin_epoch(steps)

    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures of one task."""
        assert isinstance(samples.view, int), "a task at a time"
        if samples.view != self.current:
            self._begin_context(samples.view)
        self._forget_tests()
        if self.contexts.count[self.current] < len(self.stream.training[self.current].train):
            x = self.stream.inputs(self.stream.train, samples).flatten(1)
            self.contexts.learn(self.current, x)  # in the first epoch each picture comes once
        self.inner.step(samples, head)

    def end_epoch(self) -> EpochRecord:
        """What the epoch looked like: shares are of all units, not of those of the context."""
        done = self.inner.end_epoch()
        self._write_back()
        unit_on = np.zeros(self.units, np.int64)
        unit_on[self.contexts.units[self.current, -1].numpy()] = done.unit_on
        share = self.exp.context_units / self.exp.hidden_units
        return replace(
            done,
            active=done.active * share,
            active_std=done.active_std * share,
            unit_on=unit_on,
            entropy=self._entropies(),
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        inner = self.inner.state_dict()
        return {
            "model": self._model.state_dict(),
            "contexts": self.contexts.state(),
            "census": self.census.state(),
            "biases": self.biases,
            "current": self.current,
            "inner": inner,
            "meter": inner["meter"],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""
        self._model.load_state_dict(state["model"])
        self.contexts.restore(state["contexts"])
        self.census.restore(state["census"])
        for mine, saved in zip(self.biases, state["biases"], strict=True):
            mine.copy_(saved)
        self.current = state["current"]
        if self.current >= 0:
            self._enter(self.contexts.units[self.current])
            self.inner.begin_epoch(self.steps)
        self.inner.load_state_dict(state["inner"])
        self._forget_tests()

    @torch.no_grad()
    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, each in its own context, and labels int64 [n].

        Before the first task all units may win.
        """
        if not int(self.contexts.known):
            return self._whole().logits(samples, head)
        x = self.stream.inputs(self.stream.test, samples).flatten(1).to(self.device)
        self.found = nearest(x, self._prototypes()).to(samples.rows.device)
        total = torch.empty(len(samples), self.biases[head].shape[1], device=self.device)
        for context in self.found.unique().tolist():
            which = (self.found == context).nonzero().flatten()
            part, _ = self._tester(context).logits(samples.take(which), head)
            total[which.to(self.device)] = part
        return total, self.stream.labels(self.stream.test, samples).to(self.device)

    def contexts_right(self, task: int) -> Tensor | None:
        """For how many pictures of the last `logits`, all of this task, the context was right."""
        return (self.found == task).sum() if int(self.contexts.known) else None

    def measured(self, task: int) -> dict[str, np.ndarray]:
        """The synapses of all contexts so far, and the units that each recruited."""
        units = self.contexts.units[self.current].to(self.device)  # [layers, size]
        width = torch.arange(self.exp.hidden_units, device=self.device)
        mine = [torch.isin(width, own) for own in units]
        self.census.take(task, self.model, mine, places(self._model, units))
        return self.census.measured()

    def _entropies(self) -> np.ndarray:
        """Of the duty cycles over all tasks so far, float64 [layers]: a unit wins in its contexts
        alone, and there it has the duty cycle that it remembers.
        """
        known, found = int(self.contexts.known), []
        for i, layer in enumerate(k_winners(self._model)):
            mine = self.contexts.units[:known, i].flatten().bincount(minlength=layer.n)
            found.append(float(binary_entropy(layer.duty_cycle.cpu() * mine / known)[1]))
        return np.array(found)

    def _begin_context(self, task: int) -> None:
        """Leave the context before, recruit the units of this one, and enter it."""
        assert task == int(self.contexts.known), "tasks come in order"
        if isinstance(self.inner, StagedEngine) and self.current >= 0:
            self.inner.end_task()
        self._write_back()
        duty_cycles = [layer.duty_cycle for layer in k_winners(self._model)]
        self.contexts.recruit(duty_cycles, self.exp.seed)
        self.current = task
        self._enter(self.contexts.units[task])
        self.inner.begin_epoch(self.steps)

    def _enter(self, units: Tensor) -> None:
        self.subnet, self.inner = self._part(units, max(self.current, 0))

    def _part(self, units: Tensor, context: int) -> tuple[Subnet, Engine]:
        """A part of the model, copied from it now, and its engine."""
        subnet = Subnet(self._model, self.template, units.to(self.device))
        for bias, mine in zip(subnet.biases, self.biases, strict=True):
            bias.copy_(mine[context])
        return subnet, self.build(subnet.net)

    def _write_back(self) -> None:
        """Write the part that is trained into the model."""
        if self.current < 0:
            return
        _ = self.inner.model  # it writes its weights into its model
        self.subnet.write_back()
        for bias, mine in zip(self.subnet.biases, self.biases, strict=True):
            mine[self.current] = bias

    def _tester(self, context: int) -> Engine:
        """The engine that tests in a context: made once between steps."""
        if context == self.current:
            return self.inner
        if context not in self.testers:
            self._write_back()
            self.testers[context] = self._part(self.contexts.units[context], context)[1]
        return self.testers[context]

    def _prototypes(self) -> Tensor:
        if self.prototypes is None:
            self.prototypes = self.contexts.prototypes()
        return self.prototypes

    def _whole(self) -> Engine:
        if self.whole is None:
            self.whole = self.build(self._model)
        return self.whole

    def _forget_tests(self) -> None:
        """What was made for testing is of no use once a step is taken."""
        self.testers: dict[int, Engine] = {}
        self.prototypes = None
        self.whole = None
        self.found = torch.zeros(0, dtype=torch.int64)


def _template(exp: Experiment, stream: TaskStream, model: MLP) -> MLP:
    """A network of the shape of a part."""
    share = k_winners(model)[0].k / exp.context_units
    part = replace(exp, hidden_units=exp.context_units, percent_on_fc=share)
    return make_model(part, stream.input_shape, stream.head_sizes)
