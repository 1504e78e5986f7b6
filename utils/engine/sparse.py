"""The engine for k-winner MLPs on the CPU: it computes what is active, and nothing else.

Between layers flow the winners' indices and values. The first layer's input is dense, so its
forward product is too; every layer after it reads only the rows of its (transposed) weights that
belong to winners, the backward pass touches winners only, and SGD with momentum and weight decay is
applied to the touched entries alone while all others follow lazily (see `lazy`). It computes what
the reference engine computes, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment
from models import unbiased
from models.dropout import dropout_factors
from models.k_winners import KWinners
from models.mlp import MLP
from models.sparse import update_boost_strength
from utils.engine.first_layer import first_layer
from utils.engine.hidden_layer import HiddenLayer
from utils.engine.lazy import Basis, LazyMatrix
from utils.engine.mixed import PLAIN, plain
from utils.engine.sgd import SGD
from utils.engine.weights import Weights, k_winners
from utils.engine.winners import Winners, choose
from utils.meter import EpochRecord, Meter
from utils.sparsity import entropies

FEW = 16  # a layer is worth this engine when at most one unit in so many wins


class SparseEngine:
    """Trains an MLP whose every hidden layer is k-winners, in float32 on the CPU.

    `keep` draws dropout: given a layer's number and its winners' indices [batch, k], the factors
    for their values, 0 or 1 / (1 - p).
    """

    name = "sparse"

    def __init__(self, exp: Experiment, model: MLP, stream: TaskStream) -> None:
        basis = _basis(exp)
        assert basis is not None, "supports() is asked first"
        self.exp, self.stream, self._model = exp, stream, model
        self.device, self.units = torch.device("cpu"), model.units
        self.why_not_faster = ""
        self.sgd = SGD(exp)
        first, *others = [Weights.of(block.linear) for block in model.blocks]
        self.winners, self.half = k_winners(model), exp.precision == "bf16"
        self.first = first_layer(
            first,
            self.sgd,
            basis,
            half=self.half,
            k=self.winners[0].k,
            grain=stream.grain,
        )
        self.hidden = [HiddenLayer(weights, self.sgd, basis) for weights in others]
        self.heads = [Weights.of(head) for head in model.heads]
        self.dropout = [block.dropout.p for block in model.blocks]
        self.ahead = False  # of the weights that the model holds
        self.keep: Callable[[int, Tensor], Tensor] = self._draw

    @staticmethod
    def declines(exp: Experiment, model: MLP, device: torch.device) -> str:
        """Why this engine cannot train the model, '' where it can."""
        if device.type != "cpu":
            return "sparse: it is for CPUs"
        if type(model) is not MLP or len(k_winners(model)) != len(model.blocks):
            return "sparse: it is for MLPs whose every hidden layer has own k-winners"
        if unbiased(model):
            return "sparse: it is for layers with a bias"
        if exp.old_synapse_lr < 1 and exp.old_synapse_rule == "importance":
            return "sparse: importance needs the gradient of every synapse in every step"
        lazy = _basis(exp) is not None
        return "" if lazy else "sparse: lr, momentum and weight_decay allow no lazy updates"

    @staticmethod
    def pays(model: MLP) -> bool:
        """Whether so few units win that this engine is the faster one."""
        return all(layer.k * FEW <= layer.n for layer in k_winners(model))

    @property
    def model(self) -> MLP:
        """The model, with the weights as they are now."""
        if self.ahead:
            self.first.write_back()
            for layer in self.hidden:
                layer.write_back()
            self.ahead = False
        return self._model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self.meter = Meter(steps, self.units, self.device)

    @torch.no_grad()
    def step(self, samples: Samples, head: int) -> None:
        """One step of SGD on a mini-batch of the training pictures."""
        self.ahead = True
        x = self.stream.inputs(self.stream.train, samples).flatten(1)
        labels = self.stream.labels(self.stream.train, samples)
        outputs, scales = self._forward(x)
        logits, gradient = self._classify(outputs[-1], labels, self.heads[head])
        for i in range(len(self.hidden), 0, -1):
            gradient *= scales[i]
            gradient = self.hidden[i - 1].backward(outputs[i - 1], outputs[i].unit, gradient)
        gradient *= scales[0]
        self.first.backward(x, outputs[0].unit, gradient)
        self.sgd.step()
        if self.exp.record_stats:
            self.meter.add_winners(outputs[-1].unit, outputs[-1].value)
        self.meter.add(cross_entropy(logits, labels), logits, labels)

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
        return {"model": model, "momentum": momentum, "mix": mix, "meter": meter}

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
        self.first.refresh()
        self.ahead = True
        self.meter.restore(state["meter"])

    def slow(self, factors: dict[Tensor, Tensor]) -> None:
        """Multiply the gradients of these parameters."""
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

    def follow_masks(self) -> None:
        """What the masks hide is zero, and has no momentum; the other weights are the model's."""
        self.first.follow_mask()
        for layer in self.hidden:
            layer.take_over()
        self.ahead = True

    def measured(self, task: int) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def contexts_right(self, task: int) -> Tensor | None:
        """There are no contexts."""
        return None

    @torch.no_grad()
    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, in evaluation mode, and their labels int64 [n]."""
        x = self.stream.inputs(self.stream.test, samples).flatten(1)
        on = self.first.test_winners(x, self._boost(0), self.winners[0].k_inference)
        for i, layer in enumerate(self.hidden, 1):
            on = self._choose(layer, on, i, self.winners[i].k_inference)
        logits, _ = _logits(on, self.heads[head])
        return logits, self.stream.labels(self.stream.test, samples)

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
                on = self.first.train_winners(x, self._boost(0), activation.k)
            else:
                on = self._choose(self.hidden[i - 1], outputs[-1], i, activation.k)
            _count_wins(activation, on)
            scale = self.keep(i, on.unit).masked_fill_(on.value == 0, 0)  # nothing for the padding
            outputs.append(Winners(on.unit, on.value * scale))
            scales.append(scale)
        return outputs, scales

    def _classify(
        self, inputs: Winners, labels: Tensor, classifier: Weights
    ) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes], and the gradient [batch, k] for the inputs' values."""
        logits, rows = _logits(inputs, classifier)
        error = logits.softmax(1)  # [batch, classes]
        error[torch.arange(len(labels)), labels] -= 1
        error /= len(labels)
        classes, units = classifier.weight.shape
        where = inputs.unit.unsqueeze(2) + torch.arange(classes) * units  # [batch, k, classes]
        shares = inputs.value.unsqueeze(2) * error.unsqueeze(1)
        gradient = self.sgd.gradient(classifier.weight).zero_()
        gradient.view(-1).index_add_(0, where.flatten(), shares.flatten())
        self.sgd.gradient(classifier.bias).copy_(error.sum(0))
        return logits, torch.einsum("bkc,bc->bk", rows, error)

    def _choose(self, layer: HiddenLayer, inputs: Winners, i: int, k: int) -> Winners:
        """The winners of hidden layer i; in bf16 no more than k, as in the first."""
        return choose(layer.forward(inputs), self._boost(i), k, break_ties=self.half)

    def _boost(self, layer: int) -> Tensor | None:
        """What multiplies the pre-activations when winners are picked [units]; None for ones."""
        activation = self.winners[layer]
        if not activation.boost_strength:
            return None
        return torch.exp(-activation.boost_strength * activation.duty_cycle)

    def _draw(self, layer: int, index: Tensor) -> Tensor:
        return dropout_factors(index.shape, self.dropout[layer])


def _basis(exp: Experiment) -> Basis | None:
    return Basis.of(exp.lr, exp.momentum, exp.weight_decay, exp.nesterov)


def _logits(inputs: Winners, classifier: Weights) -> tuple[Tensor, Tensor]:
    """Logits [batch, classes], and the classifier's weights of the inputs [batch, k, classes]."""
    rows = classifier.weight.t()[inputs.unit]
    return torch.einsum("bk,bkc->bc", inputs.value, rows).add_(classifier.bias), rows


def _count_wins(activation: KWinners, on: Winners) -> None:
    wins = torch.zeros_like(activation.duty_cycle)
    wins.index_add_(0, on.unit.flatten(), (on.value > 0).to(wins.dtype).flatten())
    activation.count_wins(wins, len(on.unit))
