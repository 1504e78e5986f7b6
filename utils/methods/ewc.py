"""Elastic weight consolidation: parameters that earlier tasks needed are pulled back to where they
were (Kirkpatrick et al., 2017, "Overcoming catastrophic forgetting in neural networks"), and its
online form with one pull for all tasks (Schwarz et al., 2018, "Progress & compress").

After each task the diagonal of the Fisher information says how much a parameter θ was needed; the
loss of later tasks has λ/2 · Σ F · (θ - θ*)² besides. The pulls of several tasks add up to one:
Σ Fₜ·(θ - θₜ) = S·(θ - A) with S = Σ Fₜ and A the mean of the θₜ weighted by Fₜ.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key, When
from exps.kinds import Choice, Number, Switch, Whole
from models.errors import ModelError
from models.network import Network
from models.synapses import attach, attached
from utils.engines.base import Engine, Need, Spring
from utils.methods import base
from utils.methods.base import draws

KEYS = {
    "ewc_strength": Key(100.0, Number(0, 1e15), "how strongly earlier values are held (λ)"),
    "ewc_fisher": Key(
        "exact",
        Choice(("exact", "empirical")),
        "Fisher information: exact: expected over the labels that the network gives a picture; "
        "empirical: of the pictures' own labels",
    ),
    "ewc_pictures": Key(
        0,
        Whole(0, 10_000_000, "pictures"),
        "training pictures of a task that it is measured on, drawn from the seed; 0: all",
    ),
    "ewc_online": Key(
        False,
        Switch(),
        "one pull, to the newest values (Schwarz et al., 2018), in place of one for every task",
    ),
    "ewc_decay": Key(
        1.0,
        Number(0, 1),
        "what the strength of earlier tasks is multiplied with after each (γ)",
        When("ewc_online", lambda exp: exp.ewc_online),
    ),
}
AT_A_TIME = 500  # pictures
DRAW = 5  # sets the draws of pictures apart from whatever else is drawn from the seed


def contradictions(exp: Experiment) -> Findings:
    """Why nothing can be held."""
    if exp.engine == "sparse":
        yield (
            ("engine", "methods"),
            "ewc pulls every weight in every step, and engine = sparse touches few; choose "
            "engine = auto",
        )


class Method(base.Method):
    """Holds what it knows beside the parameters: ewc_strength, S, and ewc_anchor, A."""

    @property
    def needs(self) -> frozenset[Need]:
        """A pull."""
        return frozenset({Need.PULL})

    def prepare(self, model: Network) -> None:
        """Nothing is held yet. Raises ModelError for layers whose gradients are not known here."""
        known = {id(p) for layer in _layers(model) for p in layer.parameters(recurse=False)}
        for name, p in model.named_parameters():
            if id(p) not in known:
                raise ModelError(
                    f"ewc knows linear layers, convolutions and batch norm, not {name}"
                )
        attach(model, "ewc_strength")
        attach(model, "ewc_anchor")

    def begin_task(self, engine: Engine, task: int) -> None:
        """Pull from now on."""
        self.resume(engine)

    def resume(self, engine: Engine) -> None:
        """Pull the parameters of what is trained."""
        strength = attached(engine.active, "ewc_strength")
        anchor = attached(engine.active, "ewc_anchor")
        strong = self.exp.ewc_strength
        if any(s.any() for s in strength.values()):
            engine.pull("ewc", {p: Spring(strong * s, anchor[p]) for p, s in strength.items()})

    @torch.no_grad()
    def end_task(self, engine: Engine, task: int) -> None:
        """Measure what the task needed, and where its parameters are."""
        exp, model = self.exp, engine.active
        strength, anchor = attached(model, "ewc_strength"), attached(model, "ewc_anchor")
        for p, needed in self._fisher(model, task, engine.device).items():
            s, a = strength[p], anchor[p]
            if exp.ewc_online:
                s.mul_(exp.ewc_decay).add_(needed)
                a.copy_(p)
            else:
                s.add_(needed)
                # A + (θ - A)·F/S is the weighted mean with the new value; nothing where S is 0.
                a.add_((p - a) * (needed / s).nan_to_num_(0.0, 0.0, 0.0))

    def _fisher(self, model: Network, task: int, device: torch.device) -> dict[Tensor, Tensor]:
        """The diagonal of the Fisher information on the training pictures, by parameter."""
        stream, trained = self.stream, self.stream.training[task]
        count = self.exp.ewc_pictures or len(trained.train)
        source = draws(DRAW, self.exp.seed, task)
        some = torch.randperm(len(trained.train), generator=source)[:count]
        samples = trained.train.take(some.to(trained.train.rows.device))
        total: dict[Tensor, Tensor] = {}
        training = model.training
        model.eval()
        for start in range(0, len(samples), AT_A_TIME):
            part = samples.take(slice(start, start + AT_A_TIME))
            x = stream.inputs(stream.train, part).to(device)
            labels = stream.labels(stream.train, part).to(device)
            given = None if self.exp.ewc_fisher == "exact" else labels
            for p, squares in squared_gradients(model, x, trained.head, given):
                share = squares / len(samples)
                total[p] = total[p].add_(share) if p in total else share
        model.train(training)
        return total


@torch.enable_grad()
def squared_gradients(
    model: Network, x: Tensor, head: int, labels: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Σ over pictures x of (∂ log p(label | picture) / ∂θ)², of each parameter θ that has any.

    labels int64 [n], or None: expected over the labels, by the probabilities that the network gives
    them. For a linear map with input a and gradient δ of its output, the gradient of a weight is
    δᵢ·aⱼ, so the sum of its squares is one product of squares; no picture needs a pass of its own.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    layers = _layers(model)

    def note(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((layer, args[0].detach(), output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    logits = model(x, head)
    for handle in handles:
        handle.remove()
    outputs = [output for _, _, output in seen]
    for towards in _towards(logits.detach().float(), labels):
        gradients = torch.autograd.grad(logits, outputs, towards, retain_graph=True)
        for (layer, before, _), gradient in zip(seen, gradients, strict=True):
            yield from _squares(layer, before, gradient)


def _layers(model: Network) -> list[nn.Module]:
    """Those that have weights of a kind that `_squares` knows."""
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.BatchNorm2d)]


def _towards(logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    """∂ log p(label) / ∂ logits [n, classes], for each label times the root of its probability."""
    p = logits.softmax(1)
    one = torch.eye(p.shape[1], device=p.device)
    if labels is not None:
        yield one[labels] - p
    else:
        for label in range(p.shape[1]):
            yield p[:, label : label + 1].sqrt() * (one[label] - p)


def _squares(layer: nn.Module, x: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the weight and the bias of a layer, by its inputs and the gradients of its outputs."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        yield weight, gradient.square().t() @ x.square()
        each = gradient
    elif isinstance(layer, nn.BatchNorm2d):  # of testing: it multiplies what it has normalised
        normal = nn.functional.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
        yield weight, (gradient * normal).sum((2, 3)).square().sum(0)
        each = gradient.sum((2, 3))
    else:
        assert isinstance(layer, nn.Conv2d)
        assert not isinstance(layer.padding, str) and layer.groups == 1
        window = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        windows = nn.functional.unfold(x, *window)  # [n, inputs, positions]
        each = gradient.flatten(2)  # [n, outputs, positions]
        squares = torch.einsum("nop,nip->noi", each, windows).square().sum(0)
        yield weight, squares.view_as(weight)
        each = each.sum(2)
    if isinstance(bias, Tensor):
        yield bias, each.square().sum(0)
