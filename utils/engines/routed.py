"""The engine for tasks that have a part of the network each: only that is computed.

The units of a task make a small network, a part of the model, which is trained by the engine that
is best for it: a step costs what these units cost, not those of the whole layer. Weights, momentum
and decay of all others stay as they are. Of a test picture the scenario tells the task, or a router
finds it, its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps import plugins
from exps.config import Experiment
from exps.messages import Told
from models import make_model
from models.network import Network
from models.synapses import Weights
from sparse_syn.functional import binary_entropy
from sparse_syn.k_winners import KWinnersBase
from utils.engines.base import Engine, Parts, Router, Spring
from utils.engines.batch import Batch, Loss
from utils.engines.meter import EpochRecord
from utils.engines.subnet import Subnet, require_parts

PARTS = "parts."  # begins the names, among the weights that are kept, of what every part has


class RoutedEngine:
    """Trains the part of the current task, and tests each picture with the part of its task.

    build: makes the engine of a part; prepare: attaches to a network what methods attach.
    Momentum starts from zero in every part. With a router a task's context has biases of all
    classifiers of its own, and those of the model stay as they were made; without one a task has
    its own head, bias and all, and no other. held: of every part, [tasks, ...], what it has for
    itself that is of no unit. testers and whole: made when they are first needed after a step.
    """

    whole: Engine | None
    router: Router | None

    def __init__(
        self,
        exp: Experiment,
        model: Network,
        stream: TaskStream,
        device: torch.device,
        build: Callable[[Network], Engine],
        parts: Parts,
        prepare: Callable[[Network], None],
    ) -> None:
        self.exp, self.stream, self.device, self.build = exp, stream, device, build
        self.by = next((plugins.stem(name) for name in exp.parts), "")
        if not self.by:
            raise Told(f"{exp.name}: a method has units_of, and its file no part_of(exp, units)")
        self.parts, self.router = parts, None
        if not parts.told:
            if not isinstance(parts, Router):
                raise Told(f"{self.by}: its told is false, and it has no route")
            self.router = parts
        self.given = dict[int, Sequence[Tensor]]()  # what units_of has said
        require_parts(exp, model)
        self._model, self.units = model.to(device), model.units
        tasks = len(stream.training)
        self.template = make_model(exp.part, stream.input_shape, stream.head_sizes).to(device)
        prepare(self.template)
        own = self._own(self.template)
        self.held = {name: torch.stack([its.detach()] * tasks) for name, its in own}
        for name, its in self._own(model):  # the template's biases are others
            self.held[name][:] = its
        self.current = -1  # the task that is trained
        self._train([torch.arange(size) for size in exp.part.groups])
        by = "context" if self.router else "task"
        self.name, self.can = f"{self.inner.name}, by {by}", self.inner.can
        self.why_not_faster = self.inner.why_not_faster
        self._forget_tests()

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""
        self._write_back()
        return self._model

    @property
    def active(self) -> Network:
        """The part that is trained now."""
        return self.inner.active

    def begin_task(self) -> None:
        """Tell the part; `enter` makes another one."""
        self.inner.begin_task()

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.inner.begin_epoch(steps)

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of the optimiser; the logits, part by part, before it."""
        if not self.router and any(part.head != self.current for part in batch.parts):
            why = "where every task has units of its own, a step can train its head alone"
            entered = "; engine.enter(task) has not been called" if self.current < 0 else ""
            raise Told(f"{self.by}: {why}{entered}")
        self._forget_tests()
        return self.inner.step(batch, losses)

    def end_epoch(self) -> EpochRecord:
        """What the epoch looked like: shares are of all units, not of those of the part."""
        done = self.inner.end_epoch()
        self._write_back()
        unit_on = np.zeros(self.units, np.int64)
        features = self._model.wires[-1].writes
        unit_on[self.units_of(self.current)[features].numpy()] = done.unit_on
        share = self.template.units / self.units
        return replace(
            done,
            active=done.active * share,
            active_std=done.active_std * share,
            unit_on=unit_on,
            entropy=self._entropies(),
        )

    def scale(self, factors: dict[Tensor, Tensor]) -> None:
        """Of parameters of the part."""
        self.inner.scale(factors)

    def pull(self, by: str, springs: dict[Tensor, Spring]) -> None:
        """Parameters of the part."""
        self.inner.pull(by, springs)

    def rate(self, share: float) -> None:
        """Of the part."""
        self.inner.rate(share)

    def restart(self) -> None:
        """The optimiser of the part begins anew."""
        self.inner.restart()

    def renew(self, model: Network) -> None:
        """Not here: what a task has no part in stays."""
        raise NotImplementedError("networks of contexts do not begin anew")

    def follow_masks(self) -> None:
        """The masks of the part have changed."""
        self.inner.follow_masks()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        inner = self.inner.state_dict()
        return {
            "model": self._model.state_dict(),
            "held": self.held,
            "current": self.current,
            "inner": inner,
            "meter": inner["meter"],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken, with a method that knows as much."""
        self._become(state["model"], state["held"], state["current"])
        if self.current >= 0:
            self.inner.begin_epoch(len(state["meter"]["losses"]))
        self.inner.load_state_dict(state["inner"])

    def weights(self) -> dict[str, Tensor]:
        """The state of the network, and what is held of every part."""
        return dict(self.model.state_dict()) | self.held

    def begin_with(self, weights: dict[str, Tensor], tasks: int) -> None:
        """Begin with the part of the last task, with a method that knows so many."""
        model = {name: its for name, its in weights.items() if name not in self.held}
        self._become(model, weights, tasks - 1)

    def _become(self, model: dict[str, Tensor], held: Mapping[str, Tensor], current: int) -> None:
        """Take these weights, and the part of this task."""
        self._model.load_state_dict(model)
        for name, mine in self.held.items():
            mine.copy_(held[name])
        self.current = current
        if current >= 0:
            self._train(self.units_of(current))
        self._forget_tests()

    @torch.no_grad()
    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, each by the part of its
        task, and labels int64 [n].

        Before the first task a router knows none, and of one that is to come contexts have no part:
        all units take part.
        """
        if not self.router:  # task i has head i
            return self._tester(head).logits(samples, head, training=training)
        if self.current < 0:
            return self._whole().logits(samples, head, training=training)
        pictures = self.stream.train if training else self.stream.test
        x = self.stream.inputs(pictures, samples).flatten(1).to(self.device)

        def ask(context: int) -> Tensor:
            return self._tester(context).logits(samples, head, training=training)[0]

        self.contexts = self._routed(self.router.route(x, ask), len(x)).to(samples.rows.device)
        total = torch.empty(len(samples), self.stream.head_sizes[head], device=self.device)
        for context in self.contexts.unique().tolist():
            which = (self.contexts == context).nonzero().flatten()
            part, _ = self._tester(context).logits(samples.take(which), head, training=training)
            total[which.to(self.device)] = part
        return total, self.stream.labels(pictures, samples).to(self.device)

    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """Not here: every part has other features."""
        raise NotImplementedError("parts have no features in common")

    def found(self) -> Tensor | None:
        """The context of each picture of the last `logits`, int64 [n]; None before any, and where
        the scenario tells the task."""
        return self.contexts if self.router and self.current >= 0 else None

    def enter(self, task: int) -> None:
        """Leave the part before, and train that of this task."""
        self._write_back()
        self.current = task
        self._train(self.units_of(task))
        self._forget_tests()

    def units_of(self, task: int) -> Sequence[Tensor]:
        """Those that it is given. Raises Told for others than the experiment has as its parts, or
        than it was given before."""
        units = self.parts.units_of(task)
        wrong = _unfit(units, self.exp.part.groups, self.exp.groups)
        if not wrong:
            known = self.given.setdefault(task, units)
            if not all(map(torch.equal, known, units)):
                wrong = "other units than it gave before"
        if wrong:
            raise Told(
                f"{self.by}: units_of({task}) gives {wrong}; it has to give int64"
                f" {list(self.exp.part.groups)} of {list(self.exp.groups)} units, each once, a"
                " tensor for every group, and always the same"
            )
        return units

    def _routed(self, found: Tensor, count: int) -> Tensor:
        """The tasks that a router has found. Raises Told for what are none."""
        sound = isinstance(found, Tensor) and found.dtype == torch.int64
        if not (sound and found.shape == (count,) and int(found.min()) >= 0):
            raise Told(f"{self.by}: route has to return int64 [{count}], a task for every picture")
        if int(found.max()) > self.current:
            raise Told(f"{self.by}: route found task {int(found.max())}, which has not begun")
        return found

    def _entropies(self) -> np.ndarray:
        """Of the duty cycles over all tasks so far, float64 [k-winner layers]: a unit wins in its
        tasks alone, and there it has the duty cycle that it remembers.
        """
        known, found = self.current + 1, []
        units = [self.units_of(task) for task in range(known)]
        group = {m: wire.writes for wire in self._model.wires for m in wire.module.modules()}
        for layer, its in zip(_winners(self._model), _winners(self.subnet.net), strict=True):
            duty_cycle = layer.duty_cycle.cpu().flatten()
            mine = torch.cat([own[group[layer]] for own in units])
            share = mine.bincount(minlength=len(duty_cycle)) / known
            positions = its.n // its.duty_cycle.numel()  # the model may not have met a picture
            found.append(positions * float(binary_entropy(duty_cycle * share)[1]))
        return np.array(found)

    def _train(self, units: Sequence[Tensor]) -> None:
        self.subnet, self.inner = self._part(units, max(self.current, 0))

    def _part(self, units: Sequence[Tensor], task: int) -> tuple[Subnet, Engine]:
        """A part of the model, copied from it now, and its engine."""
        head = None if self.router else task
        own = [some.to(self.device) for some in units]
        subnet = Subnet(self._model, self.template, own, head)
        for name, its in self._own(subnet.net):
            its.copy_(self.held[name][task])
        return subnet, self.build(subnet.net)

    def _write_back(self) -> None:
        """Write the part that is trained into the model."""
        if self.current < 0:
            return
        _ = self.inner.model  # it writes its weights into its model
        self.subnet.write_back()
        for name, its in self._own(self.subnet.net):
            self.held[name][self.current] = its

    def _own(self, part: Network) -> Iterator[tuple[str, Tensor]]:
        """What a part has for itself that is of no unit: what its k-winners count, and with a
        router the biases of the classifiers."""
        for i, layer in enumerate(_winners(part)):
            for name in ("boost_strength", "learning_iterations"):
                yield f"{PARTS}winners.{i}.{name}", getattr(layer, name)
        for i, head in enumerate(part.heads if self.router else ()):
            yield f"{PARTS}biases.{i}", Weights.of(head).bias.detach()

    def _tester(self, task: int) -> Engine:
        """The engine that tests with the part of a task: made once between steps."""
        if task == self.current:
            return self.inner
        if self.parts.units_of(task) == []:
            return self._whole()
        if task not in self.testers:
            self._write_back()
            self.testers[task] = self._part(self.units_of(task), task)[1]
        return self.testers[task]

    def _whole(self) -> Engine:
        """The engine that tests with all units: of a task whose part is not settled."""
        self._write_back()
        self.whole = self.whole or self.build(self._model)
        return self.whole

    def _forget_tests(self) -> None:
        """What was made for testing is of no use once a step is taken."""
        self.testers: dict[int, Engine] = {}
        self.whole = None
        self.contexts = torch.zeros(0, dtype=torch.int64)


def _unfit(units: object, sizes: Sequence[int], widths: Sequence[int]) -> str:
    """What is wrong with the units of a task, of which there should be so many; '' for nothing."""
    if not isinstance(units, list | tuple) or not all(isinstance(u, Tensor) for u in units):
        return f"no list of tensors, but a {type(units).__name__}"
    for group, (own, size, width) in enumerate(zip_longest(units, sizes, widths)):
        if own is None or size is None:
            return f"{len(units)} groups"
        if own.dtype != torch.int64 or own.shape != (size,):
            kind = str(own.dtype).removeprefix("torch.")
            return f"{kind} {list(own.shape)} of group {group}"
        if len(own.unique()) < size:
            return f"a unit of group {group} twice"
        if not 0 <= int(own.min()) <= int(own.max()) < width:
            return f"units of group {group} that there are not"
    return ""


def _winners(model: Network) -> list[KWinnersBase]:
    return [layer for layer in model.modules() if isinstance(layer, KWinnersBase)]
