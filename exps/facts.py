"""What is to be known of a benchmark and of a network before there are pictures: what the file of
each says, and rules ask. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

# Keys that are involved, the likeliest culprit first, and why they cannot be, or are of no use.
Finding = tuple[tuple[str, ...], str]
Findings = Iterator[Finding]

Shape = tuple[int, int, int]  # of a picture: channels, height, width


@dataclass(frozen=True)
class Facts:
    """picture: its usual shape; classes: the labels that there are; pictures: how many to train on,
    as many of every class; scenario: what `auto` stands for.

    per_task: how many classes a task has where tasks share them out, None where every task has
    all; tasks: how many tasks there can be then. floats: whether the pictures are no grey levels;
    tested: how many pictures to test on; mirrored: whether a picture in a mirror is one of its
    class.
    """

    picture: Shape
    classes: int
    pictures: int
    scenario: str = "domain"
    per_task: int | None = None
    tasks: tuple[int, ...] = ()
    floats: bool = False
    tested: int = 10_000
    mirrored: bool = True

    @property
    def split(self) -> bool:
        """Whether tasks share out the classes."""
        return self.per_task is not None

    @property
    def task_classes(self) -> int:
        """How many classes a task has."""
        return self.classes if self.per_task is None else self.per_task


def shared_out(
    picture: Shape, classes: int, pictures: int, num_batch: int, tested: int = 10_000
) -> Facts:
    """Of classes that num_batch tasks share out evenly, each with a head of its own."""
    tasks = tuple(n for n in range(1, classes + 1) if classes % n == 0)
    return Facts(
        picture, classes, pictures, "task", max(classes // num_batch, 1), tasks, tested=tested
    )


class Layer(NamedTuple):
    """A hidden layer: the inputs of a unit, and how many units it has; of a convolution channels,
    whose inputs are those of a filter. winners: whether k-winners follow where it is sparse."""

    inputs: int
    units: int
    convolution: bool = False
    winners: bool = True


def width(layers: Sequence[Layer], picture: Shape) -> int:
    """The inputs of the classifiers behind these layers."""
    return layers[-1].units if layers else prod(picture)
