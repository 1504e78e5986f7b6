"""Gradients of every picture by itself, at the price of few passes over all of them.

For a linear map with input a and gradient δ of its output, the gradient of a weight is δᵢ·aⱼ, so
the sum of its squares, or of its absolute values, over pictures is one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings
from models.errors import ModelError
from models.network import Network, evaluating
from sparse_syn.sparse_weights import SparseWeightsBase
from utils.engines.batch import Part

AT_A_TIME = {False: 500, True: 100}  # pictures, of networks without and with convolutions
LARGEST = 2**26  # numbers of a tensor for some of them

KNOWN = nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm
# Of logits [n, classes]: gradients of several functions of them, each [n, classes].
Functions = Callable[[Tensor, Tensor], Iterable[Tensor]]


def require_known(model: Network, by: str) -> None:
    """Raise ModelError for parameters whose gradients are not known here."""
    known = {id(p) for layer in _layers(model) for p in layer.parameters(recurse=False)}
    for name, p in model.named_parameters():
        if id(p) not in known:
            raise ModelError(
                f"{by} knows linear layers, convolutions, batch norm and group norm, not {name}"
            )


def slow_convolutions(exp: Experiment, method: str, key: str) -> Findings:
    """Why measuring takes long: of a convolution a picture's gradient is made whole."""
    if exp.uses("percent_on_conv") and not getattr(exp, key):
        yield (
            ("methods", key),
            f"{method} makes the gradients of every picture of a task by itself, which takes long "
            f"with convolutions; set {key}, to 200 for example",
        )


def mean_over(
    model: Network,
    stream: TaskStream,
    trained: Part,
    count: int,
    generator: torch.Generator,
    functions: Functions,
    *,
    squared: bool,
) -> dict[Tensor, Tensor]:
    """The mean over training pictures of what `sums` adds up, by parameter, in evaluation mode.
    count: how many of them are drawn; 0: all. functions: of logits and labels int64 [n].
    """
    some = torch.randperm(trained.size, generator=generator)[: count or trained.size]
    samples = trained.samples.take(some.to(trained.samples.rows.device))
    device = next(model.parameters()).device
    total: dict[Tensor, Tensor] = {}
    convolutions = any(isinstance(layer, nn.Conv2d) for layer in _layers(model))
    with evaluating(model):
        for part in samples.split(AT_A_TIME[convolutions]):
            x = stream.inputs(stream.train, part).to(device)
            labels = stream.labels(stream.train, part).to(device)

            def of_logits(logits: Tensor, labels: Tensor = labels) -> Iterator[Tensor]:
                for gradient in functions(logits[:, : trained.outputs], labels):
                    yield nn.functional.pad(gradient, (0, logits.shape[1] - gradient.shape[1]))

            for p, found in sums(model, x, trained.head, of_logits, squared=squared):
                share = found / len(samples)
                total[p] = total[p].add_(share) if p in total else share
    for layer in model.modules():
        if isinstance(layer, SparseWeightsBase) and layer.weight in total:
            total[layer.weight].masked_fill_(layer.zero_mask, 0)  # no synapse, so none needed
    return total


@torch.enable_grad()
def sums(
    model: Network,
    x: Tensor,
    head: int,
    of_logits: Callable[[Tensor], Iterable[Tensor]],
    *,
    squared: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Σ over pictures x of (∂ f / ∂θ)², or of |∂ f / ∂θ|, for each function f whose gradients
    ∂ f / ∂ logits [n, classes] `of_logits` gives, of each parameter θ that has any.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    layers = _layers(model)

    def note(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((layer, args[0].detach(), output))

    handles = [layer.register_forward_hook(note) for layer in layers]
    logits = model(x, head)
    for handle in handles:
        handle.remove()
    outputs, size = [output for _, _, output in seen], torch.square if squared else torch.abs
    linear: dict[int, Tensor] = {}  # by number, Σ of δ² or |δ| over functions, [n, outputs]
    for towards in of_logits(logits.detach().float()):
        gradients = torch.autograd.grad(logits, outputs, towards, retain_graph=True)
        for i, ((layer, before, _), gradient) in enumerate(zip(seen, gradients, strict=True)):
            if not isinstance(layer, nn.Linear):
                yield from _of_layer(layer, before, gradient, size)
            elif i in linear:
                linear[i] += size(gradient)
            else:
                linear[i] = size(gradient)
    for i, each in linear.items():  # one product for all functions: they have the same inputs
        layer, before, _ = seen[i]
        assert isinstance(layer, nn.Linear)
        yield layer.weight, each.t() @ size(before)
        if layer.bias is not None:
            yield layer.bias, each.sum(0)


def _layers(model: Network) -> list[nn.Module]:
    """Those that have weights of a kind that `_of_layer` knows."""
    return [m for m in model.modules() if isinstance(m, KNOWN)]


def _of_layer(
    layer: nn.Module, x: Tensor, gradient: Tensor, size: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the weight and the bias of a convolution or a norm, by its inputs and the gradients of its
    outputs."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):  # it multiplies what it has normalised
        if isinstance(layer, nn.GroupNorm):
            normal = nn.functional.group_norm(x, layer.num_groups, eps=layer.eps)
        else:  # as in testing
            of_all = layer.running_mean, layer.running_var
            normal = nn.functional.batch_norm(x, *of_all, eps=layer.eps)
        yield weight, size((gradient * normal).sum((2, 3))).sum(0)
        each = gradient.sum((2, 3))
    else:
        assert isinstance(layer, nn.Conv2d)
        assert not isinstance(layer.padding, str) and layer.groups == 1
        window = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        each = gradient.flatten(2)  # [n, outputs, positions]
        found = torch.zeros_like(weight.detach()).flatten(1)
        count = max(LARGEST // (weight[0].numel() * max(each.shape[1:])), 1)
        for some, before in zip(each.split(count), x.split(count), strict=True):
            windows = nn.functional.unfold(before, *window)  # [n, inputs, positions]
            found += size(torch.einsum("nop,nip->noi", some, windows)).sum(0)
        yield weight, found.view_as(weight)
        each = each.sum(2)
    if isinstance(bias, Tensor):
        yield bias, size(each).sum(0)
