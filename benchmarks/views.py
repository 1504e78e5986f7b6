"""Streams whose tasks have all classes, and see the pictures in a way of their own each."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.formats import Arrays, channels_first
from benchmarks.seeding import generator
from benchmarks.split import pictures
from benchmarks.stream import Blends, TaskStream, build_stream
from exps.facts import Facts

if TYPE_CHECKING:
    from exps.config import Experiment


def permuted_stream(
    exp: Experiment,
    arrays: Arrays,
    facts: Facts,
    orders: Tensor | None = None,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    name: str = "permutation",
) -> TaskStream:
    """exp.num_batch tasks with all classes, each with the pixels in an order of its own.

    orders: int64 [tasks, pixels], from which pixel each is taken, channel after channel; without,
    random permutations, of the channels of a pixel together.
    """
    if orders is None:
        channels, height, width = channels_first(arrays.x_train).shape[1:]
        orders = permutations(exp.num_batch, height * width, exp.seed)
        orders = torch.cat([orders + c * height * width for c in range(channels)], 1)
    names = [f"{name} {i + 1}" for i in range(exp.num_batch)]
    return _of_all_classes(exp, arrays, facts, names, mean, std, permutations=orders)


def rotated_stream(
    exp: Experiment,
    arrays: Arrays,
    facts: Facts,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> TaskStream:
    """exp.num_batch tasks with all classes, the pictures turned counter-clockwise: from 0 degrees
    in the first to exp.rotation_max in the last (Lopez-Paz & Ranzato, 2017, "Gradient episodic
    memory for continual learning", draw the angles instead)."""
    angles = torch.linspace(0, exp.rotation_max, exp.num_batch, dtype=torch.float64)
    blends = rotations(angles, *channels_first(arrays.x_train).shape[2:])
    names = [f"rotated by {angle:.4g}°" for angle in angles.tolist()]
    return _of_all_classes(exp, arrays, facts, names, mean, std, blends=blends)


def _of_all_classes(
    exp: Experiment,
    arrays: Arrays,
    facts: Facts,
    names: list[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    **views: Any,
) -> TaskStream:
    train, test = pictures(arrays)
    return build_stream(
        train,
        test,
        [tuple(range(facts.classes))] * exp.num_batch,
        scenario=exp.scenario,
        mean=mean,
        std=std,
        source=arrays.source,
        names=names,
        **views,
    )


def rotations(angles: Tensor, height: int, width: int) -> Blends:
    """Pictures turned about their centre by angles [views] in degrees, float64: bilinear, and with
    zeros around them."""
    dy = torch.arange(height, dtype=torch.float64).view(-1, 1) - (height - 1) / 2
    dx = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    cos, sin = (f(angles.deg2rad()).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    # Of every pixel, where it is in the picture turned back: [views, height, width].
    row, column = cos * dy + sin * dx + (height - 1) / 2, cos * dx - sin * dy + (width - 1) / 2
    places, shares = list[Tensor](), list[Tensor]()
    for y, x in itertools.product(
        (row.floor(), row.floor() + 1), (column.floor(), column.floor() + 1)
    ):
        share = (1 - (row - y).abs()) * (1 - (column - x).abs())
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        places.append(torch.where(inside, y * width + x, 0).long().flatten(1))
        shares.append(torch.where(inside, share, 0).float().flatten(1))
    return Blends(torch.stack(places, 1), torch.stack(shares, 1))


def permutations(tasks: int, pixels: int, seed: int) -> Tensor:
    """int64 [tasks, pixels], a random order of the pixels for every task.

    The seed alone decides it: with more tasks, the first ones keep theirs.
    """
    source = generator(seed, "pixel permutations")
    return torch.stack([torch.randperm(pixels, generator=source) for _ in range(tasks)])
