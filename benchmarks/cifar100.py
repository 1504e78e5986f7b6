"""Incremental CIFAR-100: its hundred fine classes, split evenly over the tasks."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets import DATASETS
from benchmarks.digest import load
from exps.facts import Facts, Findings, shared_out
from exps.keys import Key
from exps.kinds import Choice

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment

DATASET = DATASETS["cifar100"]
# Per channel over the 50,000 training pictures.
MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)
KEYS = {
    "cifar100_mode": Key(
        "split",
        Choice(("split", "superclasses")),
        "which classes a task has; split: those next in class_order; superclasses: all five of "
        "each of its superclasses, 20 tasks have one each (class_order is then theirs: sorted or "
        "random)",
        tests=True,
    )
}
# Classes are numbered in the order of these names; superclasses, of five each, as they stand here.
SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
FIVES = tuple(tuple(names.split()) for names in SUPERCLASSES.values())
LABELS = tuple(sorted(chain.from_iterable(FIVES)))


def facts(exp: Experiment) -> Facts:
    """Its classes, shared out, or its superclasses."""
    found = shared_out(DATASET.picture, DATASET.classes, DATASET.pictures, exp.num_batch)
    whole = exp.cifar100_mode == "superclasses"
    tasks = tuple(n for n in found.tasks if not whole or len(FIVES) % n == 0)
    return replace(found, tasks=tasks)


def contradictions(exp: Experiment) -> Findings:
    """Why superclasses cannot be dealt out."""
    if exp.cifar100_mode != "superclasses":
        return
    if not isinstance(exp.class_order, str):
        yield (
            ("class_order", "cifar100_mode"),
            "with superclasses the order is one of these; choose class_order = sorted or random",
        )
    if odd := next((size for size in exp.classes_per_task if size % 5), 0):
        yield (
            ("classes_per_task", "cifar100_mode"),
            f"a superclass has 5 classes, of which {odd} are no whole number of superclasses",
        )


def make_stream(exp: Experiment) -> TaskStream:
    """exp.num_batch tasks with 100 / num_batch classes each.

    Raises DataError where the pictures cannot be had.
    """
    from benchmarks.split import class_order, split_stream  # torch comes with it

    its, labels = facts(exp), None
    if exp.cifar100_mode == "superclasses":
        order = class_order(exp.class_order, len(FIVES), exp.seed)
        fine = tuple(LABELS.index(name) for coarse in order for name in FIVES[coarse])
        exp, labels = replace(exp, class_order=fine), LABELS
    arrays, data = load(DATASET, Path(exp.data_dir), sample=exp.data == "sample")
    stream = split_stream(exp, arrays, its, kind="classes", mean=MEAN, std=STD, labels=labels)
    return replace(stream, data=data)
