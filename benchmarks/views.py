"""Streams whose tasks have all classes, and see the pictures in a way of their own each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.formats import Arrays
from benchmarks.seeding import generator
from benchmarks.split import pictures
from benchmarks.stream import TaskStream, build_stream
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

    orders: int64 [tasks, pixels], from which pixel each is taken; random permutations without.
    """
    train, test = pictures(arrays)
    if orders is None:
        orders = permutations(exp.num_batch, train.x[0].numel(), exp.seed)
    return build_stream(
        train,
        test,
        [tuple(range(facts.classes))] * exp.num_batch,
        scenario=exp.scenario,
        mean=mean,
        std=std,
        source=arrays.source,
        names=[f"{name} {i + 1}" for i in range(exp.num_batch)],
        permutations=orders,
    )


def permutations(tasks: int, pixels: int, seed: int) -> Tensor:
    """int64 [tasks, pixels], a random order of the pixels for every task.

    The seed alone decides it: with more tasks, the first ones keep theirs.
    """
    source = generator(seed, "pixel permutations")
    return torch.stack([torch.randperm(pixels, generator=source) for _ in range(tasks)])
