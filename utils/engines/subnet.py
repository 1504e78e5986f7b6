"""A part of a network as one of its own: some units of every group, all inputs and outputs.

Where only these units are on, the network computes what the part computes, as far as a unit does
not depend on what the others of its layer do (with group norm it does). The part is small, so any
engine trains it at the cost of its units, and nothing of the others moves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from exps import plugins
from exps.config import Experiment
from models.errors import ModelError
from models.network import Network, Wire
from models.synapses import Weights, Where


class _Shared(NamedTuple):
    """A tensor of the network, and its part: whole[where]."""

    whole: Tensor
    part: Tensor
    where: Where


class Subnet:
    """The part `net` of a model that units make, int64 [size] of each group; `template`: its shape.

    Weights, masks, norms and duty cycles are copied in now (ModelError where they do not fit), and
    back into the model by `write_back`; single numbers, which are of no unit, are not. head: the
    classifier that is the part's own, its bias too; no other is copied. None: all classifiers are
    shared, but for their biases.
    """

    def __init__(
        self, model: Network, template: Network, units: Sequence[Tensor], head: int | None = None
    ) -> None:
        self.net = copy.deepcopy(template)
        self.shared = list(_pairs(model, self.net, units, head))
        with torch.no_grad():
            for whole, part, where in self.shared:
                found = whole[where]
                if found.shape != part.shape:
                    raise ModelError(
                        f"of a tensor {list(whole.shape)} of the network a part has"
                        f" {list(found.shape)} by its wires, and {list(part.shape)} as it is made;"
                        " see groups, WIDTHS and wires in docs/extending.md"
                    )
                part.copy_(found)

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the part into the model."""
        for whole, part, where in self.shared:
            whole[where] = part


def places(model: Network, units: Sequence[Tensor]) -> dict[Tensor, Where]:
    """Where the weights are that units int64 [size] of each group have: of every layer and every
    classifier, by its weight."""
    found, widths = dict[Tensor, Where](), dict[int, int]()
    for module, reads, writes in model.wires:
        if _is_layer(module):
            weight = Weights.of(module).weight
            widths[writes] = len(weight)
            if reads is None:
                found[weight] = (units[writes],)
            else:
                inputs = _inputs(weight, units[reads], widths[reads])
                found[weight] = units[writes].unsqueeze(1), inputs
    last = model.wires[-1].writes
    for head in model.heads:
        weight = Weights.of(head).weight
        found[weight] = slice(None), _inputs(weight, units[last], widths[last])
    return found


def require_parts(exp: Experiment, model: Network) -> None:
    """Raise ModelError for a network whose `wires` and `groups` do not tell all that a part has."""
    own = type(model).wires  # what is no attribute there, nn.Module would say of `wires`
    with plugins.blamed(exp.model):
        found = own.fget(model) if isinstance(own, property) and own.fget else model.wires
    wires, written = list(found or ()), set[int]()
    named = {id(t) for t in _tensors(model.heads).values()}
    why = "" if wires else "it has no wires"
    for number, wire in enumerate(wires, 1):
        if wrong := _wrong(wire, written, exp.groups):
            why = f"wire {number} of {len(wires)}: {wrong}"
            break
        written.add(wire.writes)
        named |= {id(t) for t in _tensors(wire.module).values()}
    left = [name for name, t in _tensors(model).items() if id(t) not in named]
    if left and not why:
        why = f"its wires leave out {', '.join(left[:5])}"
    if why:
        raise ModelError(
            f"{exp.model}: {why}, so tasks can have no parts of it; see docs/extending.md"
        )


def _wrong(wire: object, written: set[int], groups: Sequence[int]) -> str:
    """What is wrong with a wire behind others that write these groups; '' for nothing."""
    if not isinstance(wire, Wire) or not isinstance(wire.module, nn.Module):
        return "it is not a Wire of a module"
    module, reads, writes = wire
    if writes not in range(len(groups)):
        return f"it writes group {writes}, and groups are 0 to {len(groups) - 1}"
    units, what = groups[writes], type(module).__name__
    if not _is_layer(module):
        sizes = (t.shape[t.dim() > 1] for t in _tensors(module).values() if t.dim())
        wrong = next((size for size in sizes if size != units), None)
        return f"{what} is of {wrong} units, and group {writes} has {units}" if wrong else ""
    weight = Weights.of(module).weight
    if len(weight) != units:
        return f"{what} writes {len(weight)} units, and group {writes} has {units}"
    if reads is None:
        return ""
    if reads not in written:
        return f"it reads group {reads}, which no wire before it writes"
    if weight.shape[1] % groups[reads]:
        return f"{what} reads {weight.shape[1]} values, and group {reads} has {groups[reads]} units"
    return ""


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _is_layer(module: nn.Module) -> bool:
    """Whether it has a weight for each input of a unit, not one a unit."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() > 1


def _inputs(weight: Tensor, units: Tensor, width: int) -> Tensor:
    """Where the inputs of a weight [outputs, inputs, ...] are that so many units write, of all of
    their group: a channel that was flattened writes many."""
    each = weight.shape[1] // width
    return (units.unsqueeze(1) * each + torch.arange(each, device=units.device)).flatten()


def _pairs(
    model: Network, part: Network, units: Sequence[Tensor], head: int | None
) -> Iterator[_Shared]:
    """With every parameter goes whatever is attached to it."""
    where = places(model, units)
    for (mine, _, writes), (its, *_) in zip(model.wires, part.wires, strict=True):
        yield from _held(mine, its, where, units[writes])
    for i, (mine, its) in enumerate(zip(model.heads, part.heads, strict=True)):
        if head is None or i == head:
            for shared in _held(mine, its, where, slice(None)):
                if head is not None or shared.whole.dim() > 1:
                    yield shared


def _held(
    mine: nn.Module, its: nn.Module, where: dict[Tensor, Where], rows: Tensor | slice
) -> Iterator[_Shared]:
    """All parameters and buffers of a module; rows: which of its units."""
    copies = _tensors(its)
    layer = where[Weights.of(mine).weight] if _is_layer(mine) else None
    for name, whole in _tensors(mine).items():
        if layer is not None:
            yield _Shared(whole, copies[name], layer if whole.dim() > 1 else (rows,))
        elif whole.dim() > 0:  # [units], or [1, units, 1, 1]
            before = (slice(None),) * (whole.dim() > 1)
            yield _Shared(whole, copies[name], (*before, rows))
