"""The network of `models.patches`, in plain operations of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize, unfold

from exps.messages import Told
from models.network import Network

if TYPE_CHECKING:
    from exps.config import Experiment

CONTRAST = 0.0025  # added to the variance of a patch, where that of all pixels is about 1
LOOKED_AT = 20_000  # patches that the covariance is of
AT_ONCE, ON_A_GPU = 5_000_000, 2**25  # responses that are held at a time: 20 MB, in a cache


class Filters(nn.Module):
    """weight [filters, inputs] and bias [filters] of normalised patches: never trained."""

    casts = True
    weight: Tensor
    bias: Tensor

    def __init__(
        self, channels: int, size: int, stride: int, filters: int, *, mirrored: bool
    ) -> None:
        super().__init__()
        self.size, self.stride, self.mirrored = size, stride, mirrored
        self.register_buffer("weight", torch.zeros(filters, channels * size**2))
        self.register_buffer("bias", torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, height, width] -> [n, filters, positions], of which those of a position lie
        side by side; mirrored: behind them the positions of mirror images. Always in float32.

        A patch is normalised after the product: w · (p - mean p) / s = (w - mean w) · p / s.
        """
        n, size, stride = len(x), self.size, self.stride
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            x = torch.stack([x, x.flip(3)], 1).flatten(0, 1) if self.mirrored else x
            parts = torch.cat([some.mean(1, keepdim=True) for some in (x, x.square())], 1)
            mean, square = avg_pool2d(parts, size, stride).split(1, 1)
            scale = (square.addcmul(mean, mean, value=-1).clamp(min=0) + CONTRAST).rsqrt()
            patches = x.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)
            patches = patches.reshape(-1, self.weight.shape[1]) * scale.view(-1, 1)
            weight = self.weight - self.weight.mean(1, keepdim=True)
            r = torch.addmm(self.bias, patches, weight.t())
        return r.view(n, -1, len(self.bias)).transpose(1, 2)


class Pooled(nn.Module):
    """Of responses [n, filters, positions], by how much each of the k winners of a position is
    above the best that does not win, the others 0, on average in every cell: [n, cells · channels].

    k = 0: all that are above 0 win, and count from there. signs: the channels are the responses and
    their negatives; else the responses. share [cells, positions]: what a position counts in a cell;
    views: how many pictures of the same positions, one after the other, count alike.
    """

    casts = True
    share: Tensor

    def __init__(
        self,
        filters: int,
        k: int,
        rows: int,
        columns: int,
        grid: int,
        *,
        signs: bool = False,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.channels, self.k, self.signs = filters * (1 + signs), k, signs
        share = shares(rows, columns, grid).repeat(1, views) / views
        self.register_buffer("share", share, persistent=False)

    def forward(self, responses: Tensor) -> Tensor:
        r = responses.transpose(1, 2).float()  # [n, positions, filters]
        r = torch.cat([r, -r], 2) if self.signs else r
        least = r.new_zeros(1)
        if self.k:
            least = r.topk(min(self.k + 1, r.shape[2])).values[..., -1:]
        with torch.autocast(r.device.type, enabled=False):  # a sum over positions
            return (self.share @ (r - least).relu_()).flatten(1)


class Patches(Network):
    """Filters, winners, cells."""

    looks = 2_000  # pictures of the first task: ten patches of each for the covariance

    def __init__(
        self,
        exp: Experiment,
        picture: tuple[int, int, int],
        head_sizes: Sequence[int],
        k: int,
        positions: tuple[int, int],
    ) -> None:
        super().__init__()
        self.size, self.stride, self.ridge = exp.patch_size, exp.patch_stride, exp.patch_whitening
        self.power, mirrored = exp.patch_power, exp.patch_mirrored
        shape = picture[0], self.size, self.stride, exp.filters
        self.filters = Filters(*shape, mirrored=mirrored)
        kind = {"signs": exp.patch_signs, "views": 1 + mirrored}
        self.pooled = Pooled(exp.filters, k, *positions, exp.patch_grid, **kind)
        self.responses = exp.filters * positions[0] * positions[1] * (1 + mirrored)
        self.add_heads(self.pooled.channels * exp.patch_grid**2, head_sizes)

    def features(self, x: Tensor) -> Tensor:
        """The input of the classifiers [batch, cells · channels]."""
        many = max((ON_A_GPU if x.is_cuda else AT_ONCE) // self.responses, 1)
        found = torch.cat([self.pooled(self.filters(some)) for some in x.split(many)])
        return found if self.power == 1 else found.pow(self.power)

    def _patches(self, x: Tensor) -> Tensor:
        """[batch, positions, inputs]."""
        return unfold(x, self.size, stride=self.stride).transpose(1, 2)

    @torch.no_grad()
    def look(self, x: Tensor, generator: torch.Generator) -> None:
        """Draw the filters from pictures [n, channels, height, width]; generator: of the CPU.
        Raises Told where there are too few patches that are not of one colour."""
        count, found = len(self.filters.bias), self._patches(x).flatten(0, 1)
        found = found[torch.randperm(len(found), generator=generator).to(x.device)]
        found = found[found.var(1, correction=0) > CONTRAST][: max(LOOKED_AT, count)]
        if len(found) < count:
            raise Told(
                f"there are {len(found):,} patches for {count:,} filters",
                f"the first task has {len(x):,} pictures to look at, and patches of one colour "
                "do not count",
                "take fewer filters",
            )
        weight, bias = filters_of(normalised(found).double().cpu(), count, self.ridge)
        self.filters.weight.copy_(weight)
        self.filters.bias.copy_(bias)


def normalised(patches: Tensor) -> Tensor:
    """Patches [..., inputs] with mean 0 and, but for what is of one colour, variance 1."""
    patches = patches - patches.mean(-1, keepdim=True)
    return patches / (patches.square().mean(-1, keepdim=True) + CONTRAST).sqrt()


def filters_of(patches: Tensor, count: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights [count, inputs] and biases [count] such that weight · p + bias is the product of the
    whitened p and the `count` first of the patches [n, inputs], whitened and made of length 1.

    Z = V (E + ridge)^-½ Vᵀ, with V, E those of the covariance.
    """
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).t().cov(correction=0))
    whitening = vectors / (values.clamp(min=0) + ridge).sqrt() @ vectors.t()
    weight = normalize((patches[:count] - mean) @ whitening, dim=1) @ whitening
    return weight, -weight @ mean


def shares(rows: int, columns: int, grid: int) -> Tensor:
    """What each position counts in the mean of each cell of the grid: [cells, positions]."""

    def among(count: int) -> Tensor:
        cell = torch.arange(count) * grid // count
        return (cell == torch.arange(grid).unsqueeze(1)).float()

    found = torch.einsum("ar,bc->abrc", among(rows), among(columns)).reshape(grid**2, -1)
    return found / found.sum(1, keepdim=True)
