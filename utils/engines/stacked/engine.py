"""The engine for MLPs on a GPU: a step in a handful of kernels, alone or in company.

Forward, backward and SGD are written out, for ReLU networks and for k-winners; what k-winners leave
is carried by index, and weights between them are read and updated where they are active alone, as
on the CPU (see `winners`). Networks that differ by their seeds alone may be members of one `Stack`,
whose step is theirs all; each has an engine of its own, this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models.costs import entropies
from models.network import Network
from models.synapses import Weights, winner_layers
from sparse_syn import update_boost_strength
from sparse_syn.k_winners import KWinners
from utils.engines.base import Need, Whole
from utils.engines.batch import Batch, Loss
from utils.engines.meter import EpochRecord, Meter
from utils.engines.mixed import PLAIN, plain
from utils.engines.stacked.layout import On
from utils.engines.stacked.stack import AT_ONCE, TEST_BATCH, Stack, batch_of
from utils.engines.winners.engine import FEW
from utils.engines.winners.lazy import LazyMatrix
from utils.optimizers.sgd import basis
from utils.system.runtime import has_triton

WIDEST = 2**14  # units, or winners of a mini-batch, that a kernel holds at a time
MOST = 64  # winners that are searched one by one
CLASSES = 256  # of a head, whose errors and weights a program holds
MOST_BYTES = 2**32  # of pictures


class StackedEngine(Whole):
    """One member of a stack."""

    name = "stacked"
    can: frozenset[Need] = frozenset()
    at_once, test_batch = AT_ONCE, TEST_BATCH

    def __init__(self, stack: Stack, number: int, model: Network, stream: TaskStream) -> None:
        self.stack, self.number, self.device = stack, number, stack.device
        self._model, self.stream = model, stream
        self.exp, self.units, self.why_not_faster = stack.exp, model.units, ""
        self.steps, self.ahead = 0, False

    @staticmethod
    def alone(
        exp: Experiment, model: Network, stream: TaskStream, device: torch.device
    ) -> StackedEngine:
        """The engine of a stack of one."""
        stack = Stack(exp, model, stream, 1, device)
        return StackedEngine.of(stack, 0, model, stream, exp.seed)

    @staticmethod
    def of(stack: Stack, s: int, model: Network, stream: TaskStream, seed: int) -> StackedEngine:
        """That of a network which becomes the member s."""
        stack.take_in(s, model.to(stack.device), stream, seed)
        return StackedEngine(stack, s, model, stream)

    @staticmethod
    def declines(exp: Experiment, model: Network, stream: TaskStream, device: torch.device) -> str:
        """Why this engine cannot train the model, '' where it can."""
        if exp.unusual:
            return f"stacked: it knows nothing of {exp.unusual}"
        if type(stream) is not TaskStream:
            return "stacked: it computes the inputs of the project's own streams"
        if stream.blends is not None:
            return "stacked: it moves pixels, and does not blend them"
        if stream.train.x.nbytes + stream.test.x.nbytes > MOST_BYTES:
            return "stacked: the pictures may not fit on the device"
        if max(stream.head_sizes) > CLASSES:
            return f"stacked: more than {CLASSES} classes in a head"
        if device.type == "cuda" and not has_triton(device):
            return "stacked: on a GPU it needs Triton, and a card of compute capability 8.0 or more"
        if device.type == "mps":
            return "stacked: it is for GPUs of CUDA"
        winners, blocks = winner_layers(model), model.blocks
        kinds = {type(block.activation) for block in blocks}
        if not model.plain or not blocks or kinds not in ({nn.ReLU}, {KWinners}):
            return "stacked: it is for MLPs, of ReLUs or of own k-winners"
        if winners and len(winners) < len(blocks):
            return "stacked: it is for k-winners without more rules"
        if any(Weights.of(block.linear).any_bias is None for block in blocks):
            return "stacked: it is for layers with a bias"
        if exp.optimizer != "sgd":
            return "stacked: it is for SGD"
        if len(winners) > 1 and basis(exp) is None:
            return "stacked: lr, momentum and weight_decay allow no lazy updates"
        if any(layer.k * FEW > layer.n for layer in winners):
            return f"stacked: more than one unit in {FEW} wins"
        most = max((max(layer.k, layer.k_inference) for layer in winners), default=0)
        if most > MOST:
            return f"stacked: more than {MOST} units win"
        sides = [side for block in blocks for side in Weights.of(block.linear).weight.shape]
        if max(batch_of(exp, stream) * most, *sides) > WIDEST:
            return f"stacked: more than {WIDEST} units or inputs, or winners in a mini-batch"
        return ""

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""
        if self.ahead:
            for layer, matrix in self._lazy():
                layer.weight[self.number].copy_(matrix.weight().t())
            self.ahead = False
        return self._model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.steps = steps
        self.stack.make_room(steps)
        counts, s = self.stack.counts, self.number
        for total in (counts.losses, counts.sizes, counts.correct, counts.done, counts.unit_on):
            total[s].zero_()
        counts.active[s].fill_(torch.nan)

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of SGD; the logits, part by part, before it."""
        assert not losses and len(batch.parts) == 1, "methods have another engine"
        part = batch.current
        self.take_steps(part.samples, part.head, part.outputs)
        classes = self.stream.head_sizes[part.head]
        return [self.stack.flow.logits[self.number, : part.size, :classes].clone()]

    def take_steps(self, samples: Samples, head: int, outputs: int | None) -> None:
        """A step for each mini-batch of the samples, one after the other: at most `at_once`."""
        self.ahead = True
        self.stack.run({self.number: (samples, head, outputs)})

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        self._model.apply(update_boost_strength)
        meter = Meter(self.steps, self.units, self.device)
        meter.restore(self._totals())
        return meter.read(entropies(self._model))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        model, names = self._model.state_dict(), self._names()
        mix, momentum = dict.fromkeys(names.values(), PLAIN), dict[str, Tensor]()
        for parameter, its in self._momenta().items():
            momentum[names[parameter]] = its
        for layer, matrix in self._lazy():
            name = names[Weights.of(self._model.blocks[layer.number].linear).weight]
            mix[name], model[name] = matrix.mix(), matrix.parts[0].t()
            if self.exp.momentum:
                last = (
                    matrix.parts[1] if len(matrix.parts) > 1 else torch.zeros_like(model[name].t())
                )
                momentum[name] = last.t()
        meter, taken = self._totals(), self.stack.draws.taken[self.number]
        state = {"model": model, "momentum": momentum, "optimizer": {}, "mix": mix, "meter": meter}
        # Not of a fresh engine, for engines that draw by no counter have none.
        return state | {"draws": {"taken": taken}} if taken else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; `begin_epoch` comes first. Exactly where it was
        taken of an engine like this one, else up to rounding."""
        flat, names = plain(state), self._names()
        self._model.load_state_dict(flat["model"])
        for parameter, its in self._momenta().items():
            its.copy_(flat["momentum"][names[parameter]])
        for layer, matrix in self._lazy():
            name = names[Weights.of(self._model.blocks[layer.number].linear).weight]
            second = state["momentum"].get(name)
            second = None if second is None else second.t().to(self.device)
            first = state["model"][name].t().to(self.device)
            matrix.restore(first, second, state["mix"][name])
        self._follow()
        totals = self._totals()
        for name, saved in state["meter"].items():
            totals[name].copy_(saved)
        taken = state.get("draws", {}).get("taken", 0)  # others draw by no counter
        self.stack.draws.taken[self.number] = torch.as_tensor(taken)

    def restart(self) -> None:
        """Momentum starts from zero."""
        for its in self._momenta().values():
            its.zero_()
        for _, matrix in self._lazy():
            matrix.restart()
        self._take_scales()

    def renew(self, model: Network) -> None:
        """Begin anew as this network."""
        self._model.load_state_dict(model.state_dict(), strict=False)
        for layer, matrix in self._lazy():
            matrix.restore(layer.weight[self.number].t(), None, PLAIN)
        for its in self._momenta().values():
            its.zero_()
        self._follow()

    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, in evaluation mode, and
        their labels int64 [n]."""
        pictures = self.stream.train if training else self.stream.test
        labels = self.stream.labels(pictures, samples).to(self.device)
        return self.scores(samples, head, training=training), labels

    @torch.no_grad()
    def scores(self, samples: Samples, head: int, *, training: bool = False) -> Tensor:
        """The logits of `logits`, without the labels."""
        out = self.stack.test(self.number, samples, training=training)
        classifier = Weights.of(self._model.heads[head])
        if isinstance(out, On):
            rows = classifier.weight.t()[out.unit[0].long()]
            return torch.einsum("bk,bkc->bc", out.raw[0], rows).add_(classifier.bias)
        return torch.addmm(classifier.bias, out.h[0].float(), classifier.weight.t())

    @torch.no_grad()
    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """The inputs of the classifiers [n, units], of the same pictures in the same mode."""
        out = self.stack.test(self.number, samples, training=training)
        if not isinstance(out, On):
            return out.h[0].float()
        wide = torch.zeros(len(samples), self.units, device=self.device)
        return wide.scatter_add_(1, out.unit[0].long(), out.raw[0])

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self._model.named_parameters()}

    def _lazy(self) -> list[tuple[Any, LazyMatrix]]:
        """The layers that are held in parts, and this member's part of each, with its scales."""
        found = []
        for number, matrix in self.stack.matrices[self.number].items():
            layer = self.stack.layers[number]
            assert layer.scales is not None
            matrix.scale = layer.scales[self.number].tolist()
            found.append((layer, matrix))
        return found

    def _take_scales(self) -> None:
        """The matrices have other scales now."""
        self.ahead = True
        for number, matrix in self.stack.matrices[self.number].items():
            scales = self.stack.layers[number].scales
            assert scales is not None
            scales[self.number] = torch.tensor(matrix.scale, dtype=scales.dtype)

    def _follow(self) -> None:
        """What is held of parameters in another form follows them."""
        self._take_scales()
        self.stack.rewritten(self.number, self._model)

    def _momenta(self) -> dict[Tensor, Tensor]:
        """By parameter, of those that are not lazy; {} without momentum."""
        found: dict[Tensor, Tensor] = {}
        s, stack = self.number, self.stack
        for layer, block in zip(stack.layers, self._model.blocks, strict=True):
            weights = Weights.of(block.linear)
            for parameter, its in (
                (weights.weight, layer.momentum),
                (weights.bias, layer.bias_momentum),
            ):
                if its is not None:
                    found[parameter] = its[s]
        for i, head in enumerate(map(Weights.of, self._model.heads)):
            n, heads = len(head.bias), stack.heads
            if heads.momentum is not None and heads.bias_momentum is not None:
                found[head.weight] = heads.momentum[s, i, :n]
                found[head.bias] = heads.bias_momentum[s, i, :n]
        return found

    def _totals(self) -> dict[str, Tensor]:
        """What a `Meter` of this epoch would hold: the memory itself."""
        counts, s = self.stack.counts, self.number
        return {
            "losses": counts.losses[s, : self.steps],
            "active": counts.active[s, : self.steps],
            "sizes": counts.sizes[s, : self.steps],
            "correct": counts.correct[s],
            "unit_on": counts.unit_on[s],
            "done": counts.done[s : s + 1],
        }
