"""The engine for k-winner MLPs on the CPU: it computes what is active, and nothing else.

Between layers flow the winners' indices and values. The first layer's input is dense, so its
forward product is too; every layer after it reads only the rows of its (transposed) weights that
belong to winners, the backward pass touches winners only, and SGD with momentum and weight decay is
applied to the touched entries alone while all others follow lazily (see `lazy`). It computes what
the reference engine computes, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.stream import Pictures, Samples, TaskStream
from exps import plugins
from exps.config import Experiment
from models.costs import entropies
from models.dropout import dropout_factors
from models.network import Network
from models.synapses import Weights, winner_layers
from sparse_syn import update_boost_strength
from utils.engines.base import Need, Whole
from utils.engines.batch import Batch, Loss, joined, objective
from utils.engines.meter import EpochRecord
from utils.engines.mixed import PLAIN, plain
from utils.engines.winners import around
from utils.engines.winners.choose import Winners
from utils.engines.winners.classifier import Classifier
from utils.engines.winners.first_layer import first_layer
from utils.engines.winners.hidden_layer import HiddenLayer
from utils.engines.winners.lazy import LazyMatrix
from utils.optimizers.sgd import Basis
from utils.system.runtime import has_numba

FEW = 16  # a layer is worth this engine when at most one unit in so many wins


class SparseEngine(Whole):
    """Trains an MLP whose every hidden layer is k-winners, in float32 on the CPU.

    `keep` draws dropout: given a layer's number and its winners' indices [batch, k], the factors
    for their values, 0 or 1 / (1 - p).
    """

    name = "sparse"
    can = frozenset({Need.SCALE, Need.MASKS})

    def __init__(self, exp: Experiment, model: Network, stream: TaskStream) -> None:
        basis = _basis(exp)
        assert basis is not None, "`declines` is asked first"
        self.exp, self.stream, self._model = exp, stream, model
        self.device, self.units, self.why_not_faster = torch.device("cpu"), model.units, ""
        self.sgd = around.CompiledSGD(exp)
        first, *others = [Weights.of(block.linear) for block in model.blocks]
        self.winners, self.half = winner_layers(model), exp.precision == "bf16"
        self.first = first_layer(
            first,
            self.sgd,
            basis,
            half=self.half,
            k=self.winners[0].k,
            grain=stream.grain,
        )
        self.hidden = [HiddenLayer(weights, self.sgd, basis) for weights in others]
        self.heads = [Classifier(Weights.of(head), self.sgd) for head in model.heads]
        self.dropout = [block.dropout.p for block in model.blocks]
        self.ahead = False  # of the weights that the model holds
        self.keep: Callable[[int, Tensor], Tensor] = self._draw

    @staticmethod
    def declines(exp: Experiment, model: Network, device: torch.device) -> str:
        """Why this engine cannot train the model, '' where it can."""
        if device.type != "cpu":
            return "sparse: it is for CPUs"
        if not model.plain or len(winner_layers(model)) != len(model.blocks):
            return "sparse: it is for MLPs whose every hidden layer has own k-winners"
        if any(Weights.of(block.linear).any_bias is None for block in model.blocks):
            return "sparse: it is for layers with a bias"
        if not hasattr(_optimizer(exp), "basis"):
            return f"sparse: {exp.optimizer} allows no lazy updates"
        if exp.unusual:
            return f"sparse: it knows nothing of {exp.unusual}"
        if _basis(exp) is None:
            return "sparse: lr, momentum and weight_decay allow no lazy updates"
        return "" if has_numba() else "sparse: numba, which compiles it, is missing"

    @staticmethod
    def pays(model: Network) -> bool:
        """Whether so few units win that this engine is the faster one."""
        return all(layer.k * FEW <= layer.n for layer in winner_layers(model))

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""
        if self.ahead:
            self.first.write_back()
            for layer in self.hidden:
                layer.write_back()
            self.ahead = False
        return self._model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.meter = around.CompiledMeter(steps, self.units, self.device)

    @torch.no_grad()
    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """One step of SGD; the logits, part by part, before it."""
        self.ahead = True
        pictures = self.stream.train
        parts = [around.inputs(self.stream, pictures, samples) for samples in batch.pictures]
        labels = [self.stream.labels(pictures, part.samples) for part in batch.parts]
        x = joined(parts)
        outputs, scales = self._forward(x)
        logits, gradient, loss = self._classify(outputs[-1], labels, batch, losses)
        for i in range(len(self.hidden), 0, -1):
            gradient *= scales[i]
            gradient = self.hidden[i - 1].backward(outputs[i - 1], outputs[i].unit, gradient)
        gradient *= scales[0]
        self.first.backward(x, outputs[0].unit, gradient)
        self.sgd.step()
        if self.exp.record_stats:
            current = slice(batch.current.size)
            self.meter.add_winners(outputs[-1].unit[current], outputs[-1].value[current])
        self.meter.add(loss, logits[0], labels[0])
        return logits

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        self._model.apply(update_boost_strength)
        return self.meter.read(entropies(self._model))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        lazy, parameters = self._lazy(), dict(self._model.named_parameters())
        model, momentum = self._model.state_dict(), dict[str, Tensor]()
        mix = dict.fromkeys(parameters, PLAIN)
        for name, p in parameters.items():
            if name in lazy:
                matrix, turned = lazy[name]
                parts = [part.t() if turned else part for part in matrix.parts]
                model[name], mix[name] = parts[0], matrix.mix()
                its = parts[1] if len(parts) > 1 else torch.zeros_like(p)
            else:
                its = self.sgd.momentum(p)
            if self.exp.momentum:
                momentum[name] = its
        meter = self.meter.totals()
        state = {"model": model, "momentum": momentum, "optimizer": {}, "mix": mix, "meter": meter}
        rounded = self.first.ratios  # those of a fresh engine are left out: other engines have none
        return state if rounded is None else state | {"ratios": rounded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; `begin_epoch` comes first. Exactly where it was
        taken of an engine like this one, else up to rounding.
        """
        lazy, flat = self._lazy(), plain(state)
        self._model.load_state_dict(flat["model"])
        for name, p in self._model.named_parameters():
            held, its = state["model"][name], state["momentum"].get(name)
            if name in lazy:
                matrix, turned = lazy[name]
                if turned:
                    held, its = held.t(), None if its is None else its.t()
                matrix.restore(held, its, state["mix"][name])
            elif its is not None:
                self.sgd.momentum(p).copy_(flat["momentum"][name])
        for layer in self.hidden:
            layer.follow_mask()
        self.first.refresh(state.get("ratios"))
        self.ahead = True
        self.meter.restore(state["meter"])

    def scale(self, factors: dict[Tensor, Tensor]) -> None:
        """From now on multiply the updates of these parameters."""
        self.sgd.factors = factors
        for layer in self.hidden:
            layer.follow_factors()

    def restart(self) -> None:
        """Momentum starts from zero."""
        self.ahead = True
        self.sgd.restart()
        self.first.restart()
        for layer in self.hidden:
            layer.matrix.restart()

    def renew(self, model: Network) -> None:
        """Begin anew as this network; what methods attached stays."""
        lazy, fresh = self._lazy(), dict(model.named_parameters())
        self._model.load_state_dict(model.state_dict(), strict=False)
        for name, (matrix, turned) in lazy.items():
            weight = fresh[name].detach()
            matrix.restore(weight.t() if turned else weight, None, PLAIN)
        for layer in self.hidden:
            layer.follow_mask()
        self.first.refresh()
        self.sgd.restart()
        self.ahead = True

    def follow_masks(self) -> None:
        """What the masks hide is zero, and has no momentum; the other weights are the model's."""
        self.first.follow_mask()
        for layer in self.hidden:
            layer.take_over()
        self.ahead = True

    @torch.no_grad()
    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, in evaluation mode, and
        their labels int64 [n]."""
        logits = self.heads[head].logits(self._test_winners(samples, training))
        return logits, self.stream.labels(self._pictures(training), samples)

    @torch.no_grad()
    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """The inputs of the classifiers [n, units], of the same pictures in the same mode."""
        on = self._test_winners(samples, training)
        return on.value.new_zeros(len(samples), self.units).scatter_(1, on.unit, on.value)

    def _pictures(self, training: bool) -> Pictures:
        return self.stream.train if training else self.stream.test

    def _test_winners(self, samples: Samples, training: bool) -> Winners:
        """Those of the last hidden layer, in evaluation mode."""
        x = around.inputs(self.stream, self._pictures(training), samples)
        on = self.first.test_winners(x, around.boost(self.winners[0]), self.winners[0].k_inference)
        for i, layer in enumerate(self.hidden, 1):
            on = self._choose(layer, on, i, self.winners[i].k_inference)
        return on

    def _lazy(self) -> dict[str, tuple[LazyMatrix, bool]]:
        """What holds the parameters that the model has as they were at some time, by their names,
        and whether it holds them transposed."""
        held = {layer.weights.weight: (layer.matrix, True) for layer in self.hidden}
        if self.first.matrix is not None:
            held[self.first.weights.weight] = self.first.matrix, False
        return {name: held[p] for name, p in self._model.named_parameters() if p in held}

    def _forward(self, x: Tensor) -> tuple[list[Winners], list[Tensor]]:
        """The winners of every layer with their values after dropout, and dropout's factors."""
        outputs: list[Winners] = []
        scales: list[Tensor] = []
        for i, activation in enumerate(self.winners):
            if i == 0:
                on = self.first.train_winners(x, around.boost(self.winners[0]), activation.k)
            else:
                on = self._choose(self.hidden[i - 1], outputs[-1], i, activation.k)
            around.count_wins(activation, on)
            scale = self.keep(i, on.unit).masked_fill_(on.value == 0, 0)  # nothing for the padding
            outputs.append(Winners(on.unit, on.value * scale))
            scales.append(scale)
        return outputs, scales

    def _classify(
        self, on: Winners, labels: list[Tensor], batch: Batch, losses: Sequence[Loss]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Logits part by part, the gradient [batch, k] for the values of `on`, and the loss [].

        All that is written by hand begins at dL/dlogits, so any loss on logits will do.
        """
        inputs = list(map(Winners, batch.of_parts(on.unit), batch.of_parts(on.value)))
        heads = [self.heads[part.head] for part in batch.parts]
        logits = [head.logits(some) for head, some in zip(heads, inputs, strict=True)]
        errors, loss = _errors(logits, labels, batch, losses)
        for head in dict.fromkeys(heads):
            head.begin()
        back: dict[int, Tensor] = {}  # pictures that several heads see have one gradient
        for head, some, part, error in zip(heads, inputs, batch.parts, errors, strict=True):
            gradient = head.backward(some, error)
            pictures = id(part.samples)
            back[pictures] = back[pictures] + gradient if pictures in back else gradient
        return logits, joined(list(back.values())), loss

    def _choose(self, layer: HiddenLayer, inputs: Winners, i: int, k: int) -> Winners:
        """The winners of hidden layer i; in bf16 no more than k, as in the first."""
        return layer.winners(inputs, around.boost(self.winners[i]), k, break_ties=self.half)

    def _draw(self, layer: int, index: Tensor) -> Tensor:
        return dropout_factors(index.shape, self.dropout[layer])


def _errors(
    logits: list[Tensor], labels: list[Tensor], batch: Batch, losses: Sequence[Loss]
) -> tuple[list[Tensor], Tensor]:
    """dL/dlogits part by part, [part, classes] each, and the loss []."""
    if losses:
        with torch.enable_grad():
            leaves = [some.detach().requires_grad_() for some in logits]
            loss = objective(leaves, labels, batch, losses)
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return list(found), loss.detach()
    if (compiled := around.errors(logits, labels, batch)) is not None:
        return compiled
    errors = []
    for some, right, part in zip(logits, labels, batch.parts, strict=True):
        if not part.weight:
            errors.append(torch.zeros_like(some))
            continue
        error = some[:, : part.outputs].softmax(1)
        error[torch.arange(len(right)), right] -= 1
        error /= len(right)
        error = error if part.weight == 1 else error.mul_(part.weight)
        missing = some.shape[1] - error.shape[1]
        errors.append(nn.functional.pad(error, (0, missing)) if missing else error)
    return errors, objective(logits, labels, batch, ())


def _optimizer(exp: Experiment) -> Any:
    return plugins.load(plugins.OPTIMIZER, exp.optimizer)


def _basis(exp: Experiment) -> Basis | None:
    found: Basis | None = _optimizer(exp).basis(exp)
    return found
