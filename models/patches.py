"""Patches of the first task's pictures as filters, of which a few win at each position (after
Coates, Ng & Lee, 2011, "An analysis of single-layer networks in unsupervised feature learning").

A patch is made to have mean 0 and contrast 1 and is whitened (ZCA); a filter is such a patch, drawn
from the pictures that the network looks at before it is trained, and never changes. Of a picture
the features are how far winners are above the best filter that does not win, on average in each
cell of a grid; on demand with both signs of what filters say, as there, on average over the picture
and its mirror image, and with a power that makes little of large ones (Perronnin, Sánchez &
Mensink, 2010, "Improving the Fisher kernel for large-scale image classification").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exps.facts import Findings, Layer, Shape
from exps.keys import Key
from exps.kinds import Number, Switch, Whole

if TYPE_CHECKING:
    from exps.config import Experiment
    from models.filters import Patches

USES = ("percent_on_conv",)
LACKS = (
    *("hidden_units", "dropout", "sparse_layers", "percent_on_fc", "k_inference_factor"),
    *("boost_strength", "boost_strength_factor", "duty_cycle_period", "weight_sparsity_fc"),
    *("dynamic", "context", "old_synapse_lr"),
)
KEYS = {
    "filters": Key(1600, Whole(1, 100_000, "filters"), "patches that are drawn as filters"),
    "patch_size": Key(6, Whole(1, 64, "pixels"), "height and width of a patch"),
    "patch_stride": Key(1, Whole(1, 64, "pixels"), "from one position of a patch to the next"),
    "patch_grid": Key(
        2, Whole(1, 32, "cells"), "rows and columns of cells, each with the mean of its positions"
    ),
    "patch_whitening": Key(
        0.1,
        Number(0, 1000, above=True),
        "what is added to variances before patches are divided by them: the larger, the less what "
        "varies little counts",
    ),
    "patch_signs": Key(
        False,
        Switch(),
        "the negative of every response counts beside it, as if there were twice as many filters",
    ),
    "patch_mirrored": Key(
        False, Switch(), "features are the mean of those of a picture and of its mirror image"
    ),
    "patch_power": Key(
        1.0, Number(0, 1, above=True), "features are raised to this power; 0.5: their square root"
    ),
}


def positions(exp: Experiment, picture: Shape) -> tuple[int, int]:
    """In how many rows and columns patches are looked at. ValueError for too small pictures."""
    rows, columns = ((side - exp.patch_size) // exp.patch_stride + 1 for side in picture[1:])
    if min(rows, columns) < exp.patch_grid:
        raise ValueError(
            f"patches of {exp.patch_size} × {exp.patch_size} with a stride of {exp.patch_stride} "
            f"have {max(rows, 0)} × {max(columns, 0)} positions in pictures of {picture[1]} × "
            f"{picture[2]}, too few for a grid of {exp.patch_grid} × {exp.patch_grid}"
        )
    return rows, columns


def channels(exp: Experiment) -> int:
    """How many responses there are at a position."""
    return exp.filters * (1 + exp.patch_signs)


def layers(exp: Experiment, picture: Shape) -> list[Layer]:
    """The filters, and their negatives."""
    positions(exp, picture)
    return [Layer(exp.patch_size**2 * picture[0], channels(exp), convolution=True)]


def doubts(exp: Experiment) -> Findings:
    """Why mirror images might not be what was meant."""
    if exp.patch_mirrored and not exp.facts.mirrored:
        yield ("patch_mirrored",), "patch_mirrored: mirror images of these pictures are other signs"


def make_model(exp: Experiment, input_shape: Shape, head_sizes: Sequence[int]) -> Patches:
    """Sparse: k filters win; dense: all whose response is above zero."""
    from models.filters import Patches  # which `layers` is asked without

    winners = round(channels(exp) * exp.percent_on_conv) if exp.sparsify else 0
    return Patches(exp, input_shape, head_sizes, winners, positions(exp, input_shape))
