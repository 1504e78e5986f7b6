"""Weights of which a fixed, random part is zero, and stays so.

Ahmad & Scheinkman, 2019, https://arxiv.org/abs/1903.11257. Names, arguments, buffers and methods
are nupic.torch's.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter

from .arguments import check
from .kept import KeepsTypes


def synapses(weight: Tensor, zero_mask: Tensor | None) -> Tensor:
    """Which weights are there, bool in their shape: all that no mask hides, of whatever value."""
    return torch.ones_like(weight, dtype=torch.bool) if zero_mask is None else ~zero_mask


def rezero_weights(m: nn.Module) -> None:
    """Set the masked weights of a sparse layer to zero: `model.apply`. Ours always are."""
    rezero = getattr(m, "rezero_weights", None)
    if callable(rezero):
        rezero()


@torch.no_grad()
def normalize_sparse_weights(m: nn.Module) -> None:
    """Draw a sparse layer's weights anew, scaled to its non-zero inputs: `model.apply`.

    Torch's own initialisation, uniform in ±1/sqrt(fan_in), with the unmasked inputs of a row (in
    the mean) for fan_in. Does nothing where there are none.
    """
    if not isinstance(m, SparseWeightsBase):
        return
    fan_in = int(synapses(m.weight, m.zero_mask).sum()) // len(m.weight)
    if fan_in == 0:
        return
    bound = 1 / math.sqrt(fan_in)
    m.weight.uniform_(-bound, bound)
    if m.bias is not None:
        m.bias.uniform_(-bound, bound)
    m.rezero_weights()


class SparseWeightsBase(KeepsTypes):
    """A layer whose weights are zero where `zero_mask` says so, and stay zero.

    module: a layer with a `weight` of `dimensions` dimensions, outputs first, that is a parameter
    of its own and stays one: none that torch prunes or parametrises; it is used in place.
    weight_sparsity: the fraction of weights that are NOT zero (a density); sparsity: the fraction
    that are. Give one of them, between 0 and 1; the ends are allowed with allow_extremes. Every
    output keeps round(inputs * weight_sparsity) weights, drawn with torch's global generator on the
    CPU.

    forward computes with masked weights, whose gradient is exactly zero where masked. So an
    optimiser that starts from zero weights leaves them at zero, with momentum, decay or adaptive
    steps alike, and whatever else is written there neither counts nor lasts beyond the next
    training step. Raises ValueError for a density that is out of range or leaves an output
    without weights, for a module of the wrong kind, also if it becomes so later, and for an input
    of the wrong shape. States of nupic.torch load, with `zero_mask` of any type or the indices
    `zero_weights` that it had before.
    """

    zero_mask: Tensor
    dimensions: int

    def __init__(
        self,
        module: nn.Module,
        weight_sparsity: float | None = None,
        sparsity: float | None = None,
        allow_extremes: bool = False,
    ) -> None:
        super().__init__()
        fits = isinstance(getattr(module, "weight", None), Tensor)
        fits = fits and _own_weight(module).dim() == self.dimensions
        if not fits or getattr(module, "transposed", False):
            raise ValueError(
                f"{type(self).__name__} needs a layer with a weight of {self.dimensions} "
                f"dimensions, outputs first, not {module}"
            )
        weight = _own_weight(module)
        density = _density(weight_sparsity, sparsity, allow_extremes)
        inputs = weight[0].numel()
        kept = round(inputs * density)
        if kept == 0 and not allow_extremes:
            raise ValueError(
                f"a density of {density:g} leaves no weight of {inputs}: "
                f"choose at least {1 / inputs:.3g}"
            )
        self.module = module
        self.weight_sparsity = density
        self.sparsity = 1.0 - density if sparsity is None else sparsity
        mask = _random_mask(len(weight), inputs, kept)
        self.register_buffer("zero_mask", mask.view(weight.shape).to(weight.device))
        self.rezero_weights()
        self.register_load_state_dict_post_hook(_rezero_loaded)

    @property
    def weight(self) -> nn.Parameter:
        """The weights of the module, masked ones included; ValueError if it computes them now."""
        return _own_weight(self.module)

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of the module, which is never masked."""
        return cast("nn.Parameter | None", self.module.bias)

    @torch.no_grad()
    def rezero_weights(self) -> None:
        """Set the masked weights to zero."""
        self.weight.masked_fill_(self.zero_mask, 0)

    def forward(self, x: Tensor) -> Tensor:
        self._require(x)
        weight = self.weight
        masked = weight.masked_fill(self.zero_mask, 0)
        if self.training:
            # What rezero_weights does, at the price of a copy. What counts does not change, so it
            # is no change to those who keep the weights for their gradient.
            with torch.no_grad(), _unsafe_preserve_version_counter(weight):
                weight.copy_(masked)
        return functional_call(self.module, {"weight": masked}, (x,))

    def extra_repr(self) -> str:
        return f"weight_sparsity={self.weight_sparsity:g}"

    def _require(self, x: Tensor) -> None:
        """Raise ValueError for an input of another shape."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        indices = state_dict.pop(prefix + "zero_weights", None)
        if indices is not None:  # of nupic.torch before 2020, output and input or all dimensions
            mask = torch.zeros_like(self.zero_mask)
            places = mask.flatten(1) if len(indices) == 2 else mask
            places[tuple(indices.long())] = True
            state_dict[prefix + "zero_mask"] = mask
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class SparseWeights(SparseWeightsBase):
    """`SparseWeightsBase` for nn.Linear: x [..., in_features] -> [..., out_features]."""

    dimensions = 2

    def _require(self, x: Tensor) -> None:
        inputs = getattr(self.module, "in_features", None)
        if inputs is not None and x.shape[-1:] != (inputs,):
            raise ValueError(f"SparseWeights: x is {list(x.shape)}, choose [..., {inputs}]")


class SparseWeights2d(SparseWeightsBase):
    """`SparseWeightsBase` for nn.Conv2d; the inputs of an output are in_channels * kernel area."""

    dimensions = 4

    def _require(self, x: Tensor) -> None:
        inputs = getattr(self.module, "in_channels", None)
        if inputs is not None and (x.dim() not in (3, 4) or x.shape[-3] != inputs):
            raise ValueError(
                f"SparseWeights2d: x is {list(x.shape)}, choose [batch, {inputs}, height, width] "
                f"or [{inputs}, height, width]"
            )


class PrunableSparseWeightBase(SparseWeightsBase):
    """Sparse weights whose mask may be set at any time; none or all of them may be zero."""

    def __init__(
        self, module: nn.Module, weight_sparsity: float | None = None, sparsity: float | None = None
    ) -> None:
        super().__init__(module, weight_sparsity, sparsity, allow_extremes=True)

    @property
    def off_mask(self) -> Tensor:
        """Which weights are zero: a copy, bool in the shape of the weights.

        Set to another, it counts from the next forward pass on, and `sparsity` follows. Raises
        ValueError for another shape.
        """
        return self.zero_mask.clone()

    @off_mask.setter
    def off_mask(self, mask: Tensor) -> None:
        if mask.shape != self.zero_mask.shape:
            raise ValueError(
                f"off_mask is {list(mask.shape)}, choose {list(self.zero_mask.shape)}, the shape of"
                " the weights"
            )
        self.zero_mask.copy_(mask)
        self.sparsity = int(self.zero_mask.sum()) / mask.numel()
        self.weight_sparsity = 1.0 - self.sparsity


class PrunableSparseWeights(PrunableSparseWeightBase, SparseWeights):
    """`SparseWeights` with `off_mask`, and allow_extremes."""


class PrunableSparseWeights2d(PrunableSparseWeightBase, SparseWeights2d):
    """`SparseWeights2d` with `off_mask`, and allow_extremes."""


def _own_weight(module: nn.Module) -> nn.Parameter:
    """The weight of a layer that is a parameter of its own; raises ValueError for another."""
    weight = module._parameters.get("weight")
    if weight is None:
        raise ValueError(
            f"the weight of {module} is no parameter but computed from others, so no mask would"
            " hold: undo that, e.g. with torch.nn.utils.prune.remove, remove_weight_norm or"
            " parametrize.remove_parametrizations"
        )
    if isinstance(weight, UninitializedParameter):
        raise ValueError(f"the weight of {module} has no shape yet: give it a first batch before")
    return weight


def _rezero_loaded(m: nn.Module, incompatible_keys: object) -> None:
    rezero_weights(m)
    if isinstance(m, PrunableSparseWeightBase):
        m.off_mask = m.off_mask  # `sparsity` follows


def _random_mask(outputs: int, inputs: int, kept: int) -> Tensor:
    """Bool [outputs, inputs], False at `kept` random places of every row."""
    mask = torch.ones(outputs, inputs, dtype=torch.bool, device="cpu")
    for row in mask:
        row[torch.randperm(inputs, device="cpu")[:kept]] = False
    return mask


def _density(weight_sparsity: float | None, sparsity: float | None, allow_extremes: bool) -> float:
    if weight_sparsity is not None and sparsity is None:
        name, value, density = "weight_sparsity", weight_sparsity, weight_sparsity
    elif sparsity is not None and weight_sparsity is None:
        name, value, density = "sparsity", sparsity, 1.0 - sparsity
    else:
        raise ValueError(f"weight_sparsity = {weight_sparsity}, sparsity = {sparsity}: give one")
    good = 0 <= value <= 1 if allow_extremes else 0 < value < 1
    check(name, value, good, "a number between 0 and 1; the ends need allow_extremes=True")
    return density
