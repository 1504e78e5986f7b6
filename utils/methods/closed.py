"""Classifiers in closed form: computed from sums over the training pictures of all tasks so far,
each seen once, so that neither the order of tasks nor that of pictures changes more than rounding
while the features stay the same. No picture is kept.

Where a head has one task alone, what was summed for it is forgotten when the task ends.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from exps.facts import Findings, Layer
from exps.messages import Told, all_of
from exps.plugins import HEADS
from models.network import Network
from utils.engines.base import Engine
from utils.methods import base
from utils.methods.base import Costs
from utils.methods.distill import AT_A_TIME
from utils.methods.moments import MOST, Linear, Moments


def contradictions(exp: Experiment) -> Findings:
    """Why the features cannot have a classifier of this kind."""
    keys, name = ("classifier", "methods"), exp.classifier
    for other in (m for m in exp.all_methods if m in (*exp.parts, "icarl", "gdumb")):
        why = "gives every task other features" if other in exp.parts else "classifies by itself"
        why = "begins anew in every task" if other == "gdumb" else why
        yield keys, f"{other} {why}; choose classifier = softmax, or {name} without {other}"
    acting = [m for m in exp.all_methods if m not in (*HEADS, "census")]
    given = exp.model == "linear"
    if acting and (given or exp.features != "trained"):
        what = f"model = {exp.model}" if given else f"features = {exp.features}"
        yield (
            ("features", "methods", "dynamic", "context", "old_synapse_lr"),
            f"with {what} the features are the same in all tasks, so {all_of(acting)} can do "
            f"nothing; choose {'classifier = softmax' if given else 'features = trained'}",
        )


def misfits(exp: Experiment, layers: list[Layer]) -> Findings:
    """Why there are too many features, where layers say how many there are."""
    units = 0 if not layers or layers[-1].convolution else layers[-1].units
    if units > MOST:
        yield (
            ("hidden_units", "classifier"),
            f"classifier = {exp.classifier} needs the products of all pairs of {units:,} features; "
            f"the limit is {MOST:,}; take fewer hidden_units, or classifier = ncm",
        )


class Closed(base.Method):
    """moments: by head, of heads that still have tasks; linear: the classifiers that come of them;
    most: the most numbers that were held so far."""

    products: ClassVar = True  # whether sums of f fᵀ are needed

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.moments: dict[int, Moments] = {}
        self.linear: dict[int, Linear] = {}
        self.most = 0
        heads = [task.head for task in stream.training]
        self.own = {head for head in heads if heads.count(head) == 1 < len(heads)}

    def solve(self, moments: Moments, device: torch.device) -> Linear:
        """The classifier of these sums."""
        raise NotImplementedError

    def prepare(self, model: Network) -> None:
        """Refuse more features than there is room for. Raises Told."""
        if self.products and model.units > MOST:
            raise Told(
                f"[{self.exp.name}] classifier = {self.exp.classifier} needs the products of "
                f"all pairs of {model.units:,} features",
                f"the limit is {MOST:,} features",
                "take fewer of them (hidden_units, filters), or classifier = ncm",
            )

    def begin_task(self, engine: Engine, task: int) -> None:
        """Begin the sums of its head, if no earlier task has."""
        head = self.stream.training[task].head
        if head not in self.moments:
            self.moments[head] = self.empty(engine.units, head)
        self.resume(engine)

    def empty(self, units: int, head: int) -> Moments:
        """Of no pictures yet."""
        return Moments.empty(self.stream.head_sizes[head], units, products=self.products)

    def read(self, engine: Engine, samples: Samples, task: int) -> None:
        """Take in some pictures of the task."""
        self.moments[self.stream.training[task].head].add(*self.seen(engine, samples))

    def seen(self, engine: Engine, samples: Samples) -> tuple[Tensor, Tensor]:
        """Of training pictures: features, float32 [n, units], and the right outputs, int64 [n]."""
        parts = [engine.features(some, training=True) for some in samples.split(AT_A_TIME)]
        return torch.cat(parts), self.stream.labels(self.stream.train, samples)

    def end_task(self, engine: Engine, task: int) -> None:
        """Compute the classifier of its head, and forget what no later task adds to."""
        head = self.stream.training[task].head
        self.linear[head] = self.solve(self.moments[head], engine.device)
        self._count()
        if head in self.own:
            del self.moments[head]

    def scores(self, engine: Engine, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """By the classifier of the head; before it has any, the logits."""
        if head not in self.linear:
            return engine.logits(samples, head)
        labels = self.stream.labels(self.stream.test, samples).to(engine.device)
        return self.linear[head].scores(engine.features(samples)), labels

    @torch.no_grad()
    def put_into(self, heads: nn.ModuleList) -> None:
        """Let the classifiers of a network be these, as far as there are any yet."""
        for head, linear in self.linear.items():
            layer = heads[head]
            assert isinstance(layer, nn.Linear)
            layer.load_state_dict({"weight": linear.weight.t(), "bias": linear.bias})

    def _count(self) -> None:
        held = sum(map(len, self.moments.values()))
        solved = sum(t.numel() for linear in self.linear.values() for t in linear)
        self.most = max(self.most, held + solved)

    def costs(self, engine: Engine) -> Costs:
        """The sums and the classifiers, when most of them were held."""
        return Costs(parameters=self.most)

    def plan(self, engine: Engine) -> str:
        """What it will hold, and how much it multiplies for every picture that it reads."""
        units, sizes = engine.units, self.stream.head_sizes
        moments = max((self.empty(units, head) for head in range(len(sizes))), key=len)
        pictures = sum(len(task.train) for task in self.stream.training)
        return (
            f"{self.name}: reads {pictures:,} training pictures once, with {len(moments):,} "
            "multiply-adds for each beside those of its features, and holds up to "
            f"{len(moments) + sum(sizes) * (units + 1):,} numbers, but no picture"
        )

    def state(self) -> dict[str, Any]:
        """All of it; keys of a checkpoint are texts."""
        return {
            "moments": {str(head): its.state() for head, its in self.moments.items()},
            "linear": {str(head): list(its) for head, its in self.linear.items()},
            "most": self.most,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken, perhaps with fewer classes."""
        sizes = self.stream.head_sizes
        self.moments = {
            int(head): Moments.of(its).of_more(sizes[int(head)])
            for head, its in state["moments"].items()
        }
        self.linear = {
            int(head): Linear(*its).of_more(sizes[int(head)])
            for head, its in state["linear"].items()
        }
        self.most = state["most"]

    def resume(self, engine: Engine) -> None:
        """What is computed with belongs where the network is."""
        device = engine.device
        self.moments = {head: its.to(device) for head, its in self.moments.items()}
        self.linear = {h: Linear(*(t.to(device) for t in its)) for h, its in self.linear.items()}
