"""iCaRL: pictures are classified by the nearest mean of exemplars, and the network learns what
features are from new pictures and exemplars together (Rebuffi et al., 2017, "iCaRL: incremental
classifier and representation learning").

Exemplars are herded: each is chosen such that the mean of those so far comes nearest to that of its
class. Losses are binary, output by output: for earlier classes what the network said before the
task, for those of the task the labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from benchmarks.stream import Samples, TaskStream, outputs_of
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import base, memory
from utils.methods.base import Costs, Moment
from utils.methods.distill import AT_A_TIME, table
from utils.methods.memory import ByClass

KEYS = {
    "buffer_size": memory.KEYS["buffer_size"],
    "buffer_per_class": memory.KEYS["buffer_per_class"],
    "icarl_temperature": Key(
        1.0,
        Number(0, 1000, above=True),
        "what the logits of the network before the task are divided by; 2 in van de Ven & Tolias "
        "(2019)",
    ),
}

ADDING = ("agem", "der", "derpp", "dgr", "er", "gdumb", "lwf")  # methods that look at pictures


def contradictions(exp: Experiment) -> Findings:
    """Where there are no classes that come one after the other."""
    yield from memory.no_parts(exp, "icarl")
    yield from memory.too_few(exp)
    if others := [name for name in exp.all_methods if name in ADDING]:
        yield (
            ("methods",),
            f"icarl puts exemplars among the pictures of a task, which {others[0]} would take for "
            f"new ones; choose icarl or {others[0]}",
        )
    if exp.stream != "tasks":
        yield (
            ("stream", "methods"),
            "icarl herds the exemplars of a class when its task ends, and learns nothing of its "
            f"label after that, but with stream = {exp.stream} it goes on; choose stream = tasks",
        )
    if exp.scenario != "class":
        yield (
            ("methods", "scenario"),
            "icarl is for classes that come one after the other; choose scenario = class",
        )


class Method(base.Method):
    """means: float32 [classes so far, units], of length 1, of the exemplars of every class; said:
    what the network said before the task of its pictures, by row (see `table`), and of the
    exemplars; wanted: the same of a mini-batch, where a recorded step finds it.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.memory = ByClass(exp, stream)
        self.means = self.said = self.said_before = torch.zeros(0, 0)
        self.wanted = torch.zeros(0, 0)
        self.temperature = exp.icarl_temperature

    def begin_task(self, engine: Engine, task: int) -> None:
        """Note what is said of all pictures that will be trained on."""
        if not task:
            return
        *earlier, now = self.stream.training[: task + 1]
        train, outputs = now.train, max(outputs_of(self.stream, some) for some in earlier)
        said = table(engine, self.stream, train, now.head, outputs)
        self.said = (said / self.temperature).sigmoid_()
        exemplars = self.memory.samples(torch.arange(len(self.memory)), train.rows.device)
        logits = [
            engine.logits(some, now.head, training=True)[0] for some in exemplars.split(AT_A_TIME)
        ]
        self.said_before = (torch.cat(logits)[:, :outputs] / self.temperature).sigmoid_()
        self.wanted = self.said.new_zeros(self.exp.mb_size, outputs)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """A mini-batch of both: each exemplar comes as often as a picture of the task."""
        current, kept = batch.current.samples, len(self.memory)
        count = len(self.stream.training[now.task].train)
        generator = self.memory.generator
        old = torch.rand(len(current), generator=generator) < kept / (kept + count)
        drawn = torch.randint(max(kept, 1), (len(current),), generator=generator)[old]
        rows, views = current.rows.clone(), torch.full_like(current.rows, now.task)
        where = old.nonzero().flatten().to(rows.device)
        if len(self.said):
            self.wanted[: len(rows)] = self.said[rows.to(self.said.device)]
            places = drawn.to(self.said.device)
            self.wanted[where.to(self.said.device)] = self.said_before[places]
        rows[where] = self.memory.rows[drawn].to(rows.device)
        views[where] = self.memory.views[drawn].to(rows.device)
        mixed = batch.current._replace(samples=Samples(rows, views), weight=0.0)
        return Batch((mixed, *batch.parts[1:]))

    def loss(self, logits: list[Tensor], labels: list[Tensor], batch: Batch) -> Tensor | None:
        """The mean over pictures of the sum of binary cross-entropies of the outputs."""
        among = logits[0][:, : batch.current.outputs]
        wanted = one_hot(labels[0], among.shape[1]).float()
        if len(self.said):
            said = self.wanted[: len(among)]
            wanted = torch.cat([said, wanted[:, said.shape[1] :]], 1)
        return binary_cross_entropy_with_logits(among, wanted, reduction="sum") / len(among)

    @torch.no_grad()
    def end_task(self, engine: Engine, task: int) -> None:
        """Herd exemplars of the classes of the task, and compute the means of all."""
        train, found = self.stream.training[task].train, []
        kinds = self.memory.kinds_of(train)
        new = kinds.unique()
        room = self.memory.room(len(new) + len(self.memory.kinds.unique()))
        for kind in new:
            mine = train.take((kinds == kind).nonzero().flatten().to(train.rows.device))
            found.append(mine.take(herded(self._features(engine, mine), room)))
        self.memory.keep(Samples(torch.cat([some.rows for some in found]), train.view))
        exemplars = self.memory.samples(torch.arange(len(self.memory)), train.rows.device)
        right = self.stream.labels(self.stream.train, exemplars).to(engine.device)
        features = self._features(engine, exemplars)
        classes = int(right.max()) + 1
        means = features.new_zeros(classes, features.shape[1]).index_add_(0, right, features)
        self.means = normalize(means)

    def scores(self, engine: Engine, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """How near the features are to the means; classes that have none are out of the question.
        Before any task, the logits."""
        if not len(self.means):
            return engine.logits(samples, head)
        features = normalize(engine.features(samples))
        found = features.new_full((len(samples), self.stream.head_sizes[head]), -torch.inf)
        distance = torch.cdist(features, self.means)
        found[:, : len(self.means)] = -distance.masked_fill(~self.means.any(1), torch.inf)
        return found, self.stream.labels(self.stream.test, samples).to(engine.device)

    def _features(self, engine: Engine, samples: Samples) -> Tensor:
        """Of training pictures, of length 1: float32 [n, units]."""
        parts = (engine.features(some, training=True) for some in samples.split(AT_A_TIME))
        return normalize(torch.cat(list(parts)))

    def costs(self, engine: Engine) -> Costs:
        """The exemplars, the table and the means."""
        held = self.memory.costs()
        bytes_ = self.said.nbytes + self.said_before.nbytes
        return held._replace(memory=held.memory + bytes_, parameters=self.means.numel())

    def state(self) -> dict[str, Any]:
        """All of it."""
        more = {"means": self.means, "said": self.said, "said_before": self.said_before}
        return self.memory.state() | more

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.memory.restore(state)
        self.means, self.said = state["means"], state["said"]
        self.said_before = state["said_before"]

    def resume(self, engine: Engine) -> None:
        """What is computed with belongs where the network is."""
        self.means, self.said = self.means.to(engine.device), self.said.to(engine.device)
        self.said_before = self.said_before.to(engine.device)
        self.wanted = self.said.new_zeros(self.exp.mb_size, self.said.shape[1])


def herded(features: Tensor, count: int) -> Tensor:
    """Which of features [n, units] to choose, one after the other, int64 [at most count]: each such
    that the mean of those chosen comes nearest to the mean of all."""
    mean, total = features.mean(0), torch.zeros_like(features[0])
    chosen: list[Tensor] = []
    free = torch.zeros(len(features), device=features.device)
    for n in range(1, min(count, len(features)) + 1):
        distance = (mean - (total + features) / n).square().sum(1)
        next_ = (distance + free).argmin()
        free[next_] = torch.inf
        total = total + features[next_]
        chosen.append(next_)
    return torch.stack(chosen) if chosen else torch.zeros(0, dtype=torch.int64)
