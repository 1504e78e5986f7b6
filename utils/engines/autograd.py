"""The reference engine: the network as written, autograd and torch's optimisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import Move, Pictures, Samples, TaskStream
from exps import plugins
from exps.config import Experiment
from exps.messages import Told
from models.costs import entropies
from models.network import Network, evaluating
from sparse_syn import SparseWeightsBase, update_boost_strength
from utils.engines import passes
from utils.engines.augment import Augment
from utils.engines.base import Need, Spring, Whole
from utils.engines.batch import Batch, Loss, classification, joined, objective
from utils.engines.meter import EpochRecord, Meter
from utils.engines.mixed import PLAIN, plain
from utils.optimizers.base import MOMENTUM, Optimizer, TorchOptimizer
from utils.system.runtime import products_in


class AutogradEngine(Whole):
    """Trains any network; what the other engines are compared with.

    The pictures may live on another device than the network: a mini-batch is gathered where they
    are.
    """

    name = "reference"
    can = frozenset(Need)
    fused = False  # whether the optimiser takes as few passes as it can

    def __init__(
        self, exp: Experiment, model: Network, stream: TaskStream, device: torch.device
    ) -> None:
        self.exp, self.model, self.stream, self.device = exp, model.to(device), stream, device
        self.units, self.why_not_faster = model.units, ""
        self.net = self.model  # what is computed
        self.augment = Augment(exp, stream.train.x.device) if exp.augment != "none" else None
        self.springs: dict[str, dict[Tensor, Spring]] = {}
        self.parameters = list(self.model.parameters())
        with plugins.blamed(exp.optimizer):
            make = plugins.load(plugins.OPTIMIZER, exp.optimizer).make
            made = make(exp, self.parameters, fused=self.fused)
        if isinstance(made, torch.optim.Optimizer):
            made = TorchOptimizer(made)
        if not hasattr(made, "apply"):
            raise plugins.unlike(exp.optimizer, "make", "an optimiser of torch's kind", made)
        self.optimizer: Optimizer = made

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.net.train()
        self.meter = Meter(steps, self.units, self.device)

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of the optimiser; the logits, part by part, before it."""
        pictures, smoothing = self.stream.train, self.exp.label_smoothing
        inputs = [self._inputs(pictures, samples, self.augment) for samples in batch.pictures]
        labels = [self._labels(pictures, part.samples) for part in batch.parts]
        with products_in(self.exp.precision, self.device):
            features = self.net.features(joined(inputs))
            logits = [
                self.net.heads[part.head](some).float()
                for part, some in zip(batch.parts, batch.of_parts(features), strict=True)
            ]
        loss = objective(logits, labels, batch, losses, smoothing)
        # Without a gradient the other heads stay as they are.
        for p in self.parameters:
            p.grad = None
        guarded = classification(logits, labels, batch, smoothing, guard=True)
        against = None if guarded is None else self._gradients(guarded)
        loss.backward()
        if against is not None:
            self._mask_gradients()
            self._project(against)
        self._update()
        if self.exp.record_stats:
            self.meter.add_activity(features[: batch.current.size])
        self.meter.add(loss, logits[0], labels[0])
        return [some.detach() for some in logits]

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        self.model.apply(update_boost_strength)
        return self.meter.read(entropies(self.model))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        parameters = dict(self.model.named_parameters())
        memory = {name: self.optimizer.state(p) for name, p in parameters.items()}
        momentum = {name: its.pop(MOMENTUM) for name, its in memory.items() if MOMENTUM in its}
        return {
            "model": self.model.state_dict(),
            "momentum": momentum,
            "optimizer": {name: its for name, its in memory.items() if its},
            "mix": dict.fromkeys(parameters, PLAIN),
            "meter": self.meter.totals(),
            **({} if self.augment is None else {"augment": self.augment.count}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; `begin_epoch` comes first."""
        state = plain(state)
        self.model.load_state_dict(state["model"])
        parameters = dict(self.model.named_parameters())
        for name, parameter in parameters.items():
            memory = dict(state["optimizer"].get(name, {}))
            if name in state["momentum"]:
                memory[MOMENTUM] = state["momentum"][name]
            if memory:
                self.optimizer.restore(parameter, memory)
        self.meter.restore(state["meter"])
        if self.augment is not None:
            self.augment.count.copy_(state["augment"])

    def scale(self, factors: dict[Tensor, Tensor]) -> None:
        """From now on multiply the updates of these parameters."""
        self.optimizer.factors = factors

    def pull(self, by: str, springs: dict[Tensor, Spring]) -> None:
        """From now on pull these parameters."""
        self.springs[by] = springs

    def rate(self, share: float) -> None:
        """The next steps have this share of lr."""
        if not hasattr(self.optimizer, "rate"):
            what = f"{self.exp.unusual} changes lr from step to step"
            why = f"the optimiser {self.exp.optimizer} has no function rate"
            raise Told(what, why, "set a constant lr without warm-up, or add one")
        self.optimizer.rate(share)

    def restart(self) -> None:
        """The optimiser begins anew."""
        self.optimizer.restart()

    def renew(self, model: Network) -> None:
        """Begin anew as this network; what methods attached stays."""
        self.model.load_state_dict(model.state_dict(), strict=False)
        self.restart()

    @torch.no_grad()
    def follow_masks(self) -> None:
        """What the masks hide is zero, has no momentum, and is not pulled."""
        for layer in self.model.modules():
            if isinstance(layer, SparseWeightsBase):
                layer.rezero_weights()
                pulls = (its[layer.weight].strength for its in self.springs.values() if its)
                for memory in (*self.optimizer.memory(layer.weight), *pulls):
                    memory.masked_fill_(layer.zero_mask, 0)

    @torch.no_grad()
    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, in evaluation mode, and
        their labels int64 [n]."""
        with self._looking(training) as pictures, products_in(self.exp.precision, self.device):
            logits = self.net(self._inputs(pictures, samples), head)
        return logits.float(), self._labels(pictures, samples)

    @torch.no_grad()
    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """The inputs of the classifiers [n, units], of the same pictures in the same mode."""
        with self._looking(training) as pictures, products_in(self.exp.precision, self.device):
            return self.net.features(self._inputs(pictures, samples)).float()

    @contextmanager
    def _looking(self, training: bool) -> Iterator[Pictures]:
        """Evaluation mode, in here alone, and the pictures to be seen in it: dropout goes on in the
        middle of an epoch."""
        with evaluating(self.net):
            yield self.stream.train if training else self.stream.test

    def _gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Of every parameter; the graph stays."""
        found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
        return list(found)

    @torch.no_grad()
    def _project(self, against: list[Tensor | None]) -> None:
        """Take from the gradient what is opposed to another: g - (gᵀr / rᵀr)·r where gᵀr < 0
        (Chaudhry et al., 2019, "Efficient lifelong learning with A-GEM")."""
        pairs = [(p, r) for p, r in zip(self.parameters, against, strict=True) if r is not None]
        zero = torch.zeros((), device=self.device)
        dot = sum(((p.grad * r).sum() for p, r in pairs if p.grad is not None), zero)
        square = sum((r.square().sum() for _, r in pairs), zero)
        share = torch.where(dot < 0, dot / square, zero)
        # Where the square has underflowed, there is nothing to be taken.
        share.nan_to_num_(0.0, 0.0, 0.0)
        for p, r in pairs:
            if p.grad is not None:
                p.grad.sub_(share * r)
            else:
                p.grad = -share * r

    @torch.no_grad()
    def _update(self) -> None:
        """Step all parameters that have a gradient."""
        for springs in self.springs.values():
            for p, spring in springs.items():
                if p.grad is not None:  # a head that is not used has not moved
                    passes.pull(p, spring.strength, spring.anchor)
        self._mask_gradients()
        if self.exp.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.exp.clip_norm)
        self.optimizer.apply([(p, p.grad) for p in self.parameters if p.grad is not None])

    def _mask_gradients(self) -> None:
        """Nothing: the layers compute with masked weights, whose gradients are masked too."""

    def _inputs(self, pictures: Pictures, samples: Samples, move: Move | None = None) -> Tensor:
        x = self.stream.inputs(pictures, samples, *() if move is None else (move,))
        return x.to(self.device, non_blocking=True)

    def _labels(self, pictures: Pictures, samples: Samples) -> Tensor:
        return self.stream.labels(pictures, samples).to(self.device, non_blocking=True)
