"""Weights of which a fixed, random part is zero, and stays so.

Ahmad & Scheinkman, 2019, https://arxiv.org/abs/1903.11257. Names, arguments, buffers and methods
are nupic.torch's.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.errors import check


def rezero_weights(m: nn.Module) -> None:
    """Set the masked weights of a sparse layer to zero: `model.apply`. Ours always are."""
    rezero = getattr(m, "rezero_weights", None)
    if callable(rezero):
        rezero()


@torch.no_grad()
def normalize_sparse_weights(m: nn.Module) -> None:
    """Draw a sparse layer's weights anew, scaled to its non-zero inputs: `model.apply`.

    Torch's own initialisation, uniform in ±1/sqrt(fan_in), with the unmasked inputs of a row for
    fan_in. Does nothing where a row has none.
    """
    if not isinstance(m, SparseWeightsBase):
        return
    fan_in = int((~m.zero_mask[0]).sum())
    if fan_in == 0:
        return
    bound = 1 / math.sqrt(fan_in)
    m.weight.uniform_(-bound, bound)
    if m.bias is not None:
        m.bias.uniform_(-bound, bound)
    m.rezero_weights()


class SparseWeightsBase(nn.Module):
    """A layer whose weights are zero where `zero_mask` says so, and stay zero.

    module: a layer with a `weight` of `dimensions` dimensions, outputs first; it is used in place.
    weight_sparsity: the fraction of weights that are NOT zero (a density); sparsity: the fraction
    that are. Give one of them, between 0 and 1; the ends are allowed with allow_extremes. Every
    output keeps round(inputs * weight_sparsity) weights, drawn with torch's global generator on the
    CPU.

    forward computes with masked weights, whose gradient is exactly zero where masked. So an
    optimiser that starts from zero weights leaves them at zero, with momentum, decay or adaptive
    steps alike, and whatever else is written there neither counts nor lasts beyond the next
    training step. Raises ValueError for a density that is out of range or leaves an output
    without weights, and for a module of the wrong kind.
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
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() != self.dimensions:
            raise ValueError(
                f"{type(self).__name__} needs a layer with a weight of {self.dimensions} "
                f"dimensions, not {module}"
            )
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
        """The weights of the module, masked ones included."""
        return cast(nn.Parameter, self.module.weight)

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of the module, which is never masked."""
        return cast("nn.Parameter | None", self.module.bias)

    @torch.no_grad()
    def rezero_weights(self) -> None:
        """Set the masked weights to zero."""
        self.weight.masked_fill_(self.zero_mask, 0)

    def forward(self, x: Tensor) -> Tensor:
        masked = self.weight.masked_fill(self.zero_mask, 0)
        if self.training:
            with torch.no_grad():
                self.weight.copy_(masked)  # what rezero_weights does, at the price of a copy
        return functional_call(self.module, {"weight": masked}, (x,))

    def extra_repr(self) -> str:
        return f"weight_sparsity={self.weight_sparsity:g}"


class SparseWeights(SparseWeightsBase):
    """`SparseWeightsBase` for nn.Linear: x [batch, in_features] -> [batch, out_features]."""

    dimensions = 2


class SparseWeights2d(SparseWeightsBase):
    """`SparseWeightsBase` for nn.Conv2d; the inputs of an output are in_channels * kernel area."""

    dimensions = 4


def _rezero_loaded(m: nn.Module, incompatible_keys: object) -> None:
    rezero_weights(m)


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
