"""Deep generative replay: every step trains on pictures too that a generator has learned to make
from those of earlier tasks, and on what the network said of them then (Shin et al., 2017,
"Continual learning with deep generative replay").

The generator is a variational autoencoder that learns beside the network, step by step. In task n
the current pictures count 1/n and the generated ones 1 - 1/n, for both (van de Ven & Tolias, 2019,
"Three scenarios for continual learning"). Soft labels are distilled (van de Ven & Tolias, 2018,
"Generative replay with feedback connections as a general strategy for continual learning").
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.stream import Made, Samples, TaskStream
from exps.config import Experiment
from exps.facts import Findings, Shape
from exps.keys import Key, When
from exps.kinds import Choice, Number, Switch, Whole
from models.costs import layer_costs
from models.network import Network
from utils.engines.base import Engine
from utils.engines.batch import Batch, Part
from utils.methods import base, memory
from utils.methods.base import Costs, Moment
from utils.methods.distill import earlier_heads
from utils.methods.generator import Generator
from utils.system.runtime import products_in

KEYS = {
    "dgr_labels": Key(
        "hard",
        Choice(("hard", "soft")),
        "what generated pictures are trained on: hard: the class that the network gave them after "
        "the last task; soft: its probabilities at temperature 2 (distillation)",
    ),
    "dgr_scaled": Key(
        True,
        Switch(),
        "whether distillation counts T² = 4 times as much, as in van de Ven & Tolias (2018, 2019); "
        "their public code leaves that out today",
        When("dgr_labels = soft", lambda exp: exp.dgr_labels == "soft"),
    ),
    "dgr_units": Key(
        0,
        Whole(0, 1_000_000, "units"),
        "width of the generator's hidden layers, hidden_layers in its encoder and in its decoder; "
        "0: as hidden_units",
    ),
    "dgr_latent": Key(
        100, Whole(1, 100_000, "numbers"), "what the generator makes a picture of: its latent space"
    ),
    "dgr_lr": Key(0.001, Number(0, 100, above=True), "learning rate of the generator, by Adam"),
}
# Weights of a generator: with their moments and the decoder's copy they are 1.4 GB of a checkpoint,
# which has room for 1.5 GB beside what the network's size allows.
MOST = 100_000_000


def contradictions(exp: Experiment) -> Findings:
    """Why generated pictures cannot be trained on."""
    yield from memory.no_parts(exp, "dgr")
    if exp.facts.floats:
        yield (
            ("methods", "benchmark", "data_file"),
            "dgr makes pictures in 256 grey levels, and these data are floats",
        )
    if not exp.has_hidden and not exp.dgr_units:
        yield (
            ("dgr_units", "methods", "model"),
            f"{exp.model} has no hidden_units, which dgr_units = 0 takes for the generator; choose "
            "dgr_units",
        )
    pixels, *units = _widths(exp, exp.facts.picture)
    each_way = sum(n * m for n, m in pairwise((pixels, *units)))
    weights = 2 * each_way + 3 * units[-1] * exp.dgr_latent
    if weights > MOST:
        yield (
            ("dgr_units", "hidden_units", "hidden_layers", "dgr_latent", "benchmark"),
            f"the generator would have {weights / 1e6:,.0f} million weights; the limit is "
            f"{MOST / 1e6:.0f} million; choose fewer dgr_units",
        )


class Method(base.Method):
    """Adds generated pictures to every mini-batch, as many as a whole one has: a part for each head
    that earlier tasks have.

    network: the network as it was after the last task, None in the first; known: how many outputs
    earlier tasks have, by head; targets: what each head is to say of the generated pictures,
    probabilities [heads, size, outputs].
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        widths = _widths(exp, stream.input_shape)
        self.generator = Generator(widths, exp.dgr_latent, exp.dgr_lr, exp.seed, exp.precision)
        self.temperature = 2.0 if exp.dgr_labels == "soft" else 1.0
        self.scale = self.temperature**2 if exp.dgr_scaled else 1.0
        self.size = min(exp.mb_size, max(len(task.train) for task in stream.training))
        self.targets = torch.zeros(len(stream.head_sizes), self.size, max(stream.head_sizes))
        self.task, self.known, self.first = 0, dict[int, int](), 0
        self.network: Network | None = None
        self.stored: dict[str, Tensor] = {}  # the state of `network`, until there is an engine

    def begin_task(self, engine: Engine, task: int) -> None:
        """Generate and label from here on as it was learned until now."""
        self._enter(engine, task)
        if task:
            self.generator.freeze()
            self.network = _frozen(engine.model)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch and generated pictures; the generator takes its step on them."""
        current = batch.current.samples
        if self.network is None:
            self._learn([current], [1.0])
            return batch
        share = 1 / (self.task + 1)
        made = self._make(self.network)
        self._learn([current, made], [share, 1 - share])
        self.first = len(batch.parts)
        # Weight 0: heads that share pictures differ in what they are to say, so `loss` counts them.
        more = (Part(made, head, 0.0, batch.current.outputs) for head in self.known)
        return Batch((*(p._replace(weight=share * p.weight) for p in batch.parts), *more))

    def loss(self, logits: list[Tensor], labels: list[Tensor], batch: Batch) -> Tensor | None:
        """1 - 1/n times T² (or 1) times the cross-entropy between targets and logits / T, the mean
        over the heads of earlier tasks, where the classes that came since have targets of zero."""
        if self.network is None:
            return None
        own = slice(self.first, self.first + len(self.known))
        losses = []
        for some, part in zip(logits[own], batch.parts[own], strict=True):
            some = some[:, : part.outputs] / self.temperature
            losses.append(cross_entropy(some, self.targets[part.head, :, : some.shape[1]]))
        return self.scale * self.task / (self.task + 1) * torch.stack(losses).mean()

    def costs(self, engine: Engine) -> Costs:
        """The generator, and the copies of it and of the network; a backward pass is counted as two
        forward ones, and the network's training on generated pictures with the rest."""
        numbers, learning, making = self.generator.costs()
        if self.network is None:
            return Costs(parameters=numbers, macs=self.size * learning)
        numbers += sum(p.numel() for p in self.network.parameters())
        forward = sum(c.active_macs for c in layer_costs(self.network, self.stream.input_shape))
        return Costs(parameters=numbers, macs=self.size * (2 * learning + making + 4 * forward))

    def state(self) -> dict[str, Any]:
        """The generator, and the copy of the network."""
        network = {} if self.network is None else dict(self.network.state_dict())
        return {"task": self.task, "generator": self.generator.state(), "network": network}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.task, self.stored = state["task"], state["network"]
        self.generator.restore(state["generator"])

    def resume(self, engine: Engine) -> None:
        """Copy the network as it was."""
        self._enter(engine, self.task)
        if self.stored:
            self.network = _frozen(engine.model)
            self.network.load_state_dict(self.stored)

    def _enter(self, engine: Engine, task: int) -> None:
        """Compute where the engine does, in this task."""
        self.task, self.known = task, earlier_heads(self.stream, task)
        self.generator.to(engine.device)
        self.targets = self.targets.to(engine.device)

    @torch.no_grad()
    def _make(self, network: Network) -> Made:
        """Generated pictures, in grey levels, and what each head of earlier tasks is to say of them
        as `targets`; with them the labels of the first of these heads."""
        stream = self.stream
        device = self.targets.device
        x = self.generator.make(self.size)
        # A generator that has diverged makes no numbers; then neither is the loss one, and says so.
        fault = 0 * x.sum(1, keepdim=True)
        x = x.mul(255).round().to(torch.uint8).view(-1, *stream.input_shape)
        x = x.to(stream.train.x.device)
        made = Made.of(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        with products_in(self.exp.precision, device):
            features = network.features(stream.inputs(stream.train, made).to(device))
            said = {head: network.heads[head](features) for head in self.known}
        for head, outputs in self.known.items():
            scores = said[head].float()[:, :outputs]
            soft = (scores / self.temperature).softmax(1)
            hard = one_hot(scores.argmax(1), outputs)
            target = hard if self.exp.dgr_labels == "hard" else soft
            self.targets[head, :, :outputs] = target + fault
        made.y.copy_(self.targets[next(iter(self.known))].argmax(1))
        return made

    def _learn(self, pictures: list[Samples], shares: list[float]) -> None:
        """A step of the generator on the mean loss of each of these, by its share."""
        stream, device = self.stream, self.targets.device
        std, mean = stream.std.view(-1, 1, 1), stream.mean.view(-1, 1, 1)
        inputs = torch.cat([stream.inputs(stream.train, samples) for samples in pictures])
        x = (inputs * std + mean).clamp(0, 1)  # what is normalised and back may be just outside
        weights = [
            torch.full((len(samples),), share / len(samples), device=device)
            for samples, share in zip(pictures, shares, strict=True)
        ]
        self.generator.learn(x.flatten(1).to(device), torch.cat(weights))


def _widths(exp: Experiment, picture: Shape) -> list[int]:
    """The pixels, and the units of each hidden layer that the generator's encoder has."""
    layers = exp.hidden_layers if exp.uses("hidden_layers") else 1
    return [math.prod(picture)] + [exp.dgr_units or exp.hidden_units] * layers


def _frozen(network: Network) -> Network:
    """A copy that stays as it is, to be asked."""
    return copy.deepcopy(network).requires_grad_(False).eval()
