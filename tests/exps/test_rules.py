"""Values that contradict each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exps import rules
from exps.experiment import KEYS, Experiment

PERM = Experiment(name="a")
SPLIT = Experiment(name="a", mnist_mode="split", num_batch=5)
CIFAR = Experiment(name="a", benchmark="cifar", num_batch=5)
CIFAR100 = Experiment(name="a", benchmark="cifar100")
CONTEXT = {"context": "prototype"}
SLOW = {"old_synapse_lr": 0.5, "weight_decay": 0.0}
GROW = {"dynamic": "grow"}
FEW_FRESH = {"grow_units": "fresh", "grow_per_task": 5e-4}  # 4.4 of 4000 units, 0.4 of a context
CNN = Experiment(name="a", cnn=True, hidden_units=512, percent_on_fc=0.05)


@pytest.mark.parametrize(
    ("exp", "allowed"),
    [
        (PERM, set(range(1, 121))),
        (SPLIT, {1, 2, 3, 4, 5}),
        (CIFAR, {1, 2, 5, 10}),
        (CIFAR100, {1, 2, 4, 5, 10, 20, 25, 50, 100}),
    ],
)
def test_number_of_tasks(exp: Experiment, allowed: set[int]) -> None:
    def fits(tasks: int) -> bool:
        return not list(rules.contradictions(replace(exp, num_batch=tasks)))

    assert {tasks for tasks in range(1, 121) if fits(tasks)} == allowed


@pytest.mark.parametrize(
    ("exp", "change", "key", "reason"),
    [
        (SPLIT, {"num_batch": 6}, "num_batch", "1, 2, 3, 4 or 5 tasks, not num_batch = 6"),
        (PERM, {"momentum": 0.0}, "nesterov", "set momentum above 0 or nesterov = false"),
        (PERM, {"engine": "sparse", "cnn": True}, "engine", "engine = auto"),
        (PERM, {"engine": "sparse", "sparsify": False}, "engine", "engine = auto"),
        (PERM, {"engine": "sparse", "sparse_layers": "nupic"}, "engine", "engine = auto"),
        (PERM, {"data": "sample"}, "data", "with benchmark = mnist choose data = full"),
        (CIFAR100, {"data": "sample"}, "data", "with benchmark = cifar100"),
        (SPLIT, {"class_order": (1, 0)}, "class_order", "it has 2 of the 10 classes"),
        (SPLIT, {"class_order": (*range(9), 8)}, "class_order", "class 8 comes more than once"),
        (CIFAR, {"class_order": (*range(9), 10)}, "class_order", "there is no class 10"),
        (PERM, {"percent_on_fc": 0.0001}, "percent_on_fc", "no winner among 4000 units"),
        (PERM, {"hidden_units": 500}, "percent_on_fc", "no winner among 500 units"),
        (PERM, {"k_inference_factor": 0.2}, "k_inference_factor", "in training 4 win"),
        (CNN, {"percent_on_conv": 0.0078}, "percent_on_conv", "no winner among 64 channels"),
        (CNN, {"k_inference_factor": 0.1}, "k_inference_factor", "among 64 channels in evaluation"),
        (PERM, {"weight_sparsity_fc": 0.0006}, "weight_sparsity_fc", "no weight"),
        (CNN, {"weight_sparsity_conv": 0.01}, "weight_sparsity_conv", "a unit of 25 inputs"),
        (PERM, {"hidden_units": 10**6, "hidden_layers": 2}, "hidden_units", "1000.8 billion"),
        (CNN, {"hidden_units": 10**6}, "hidden_units", "51.2 billion weights"),
        (PERM, CONTEXT | {"context_units": 5000}, "context_units", "more than the 4000"),
        (PERM, CONTEXT | {"context_units": 3}, "context_units", "4 units win, but only the 3"),
        (PERM, CONTEXT | {"cumul": True}, "context", "one after the other"),
        (PERM, CONTEXT | {"sparse_layers": "nupic"}, "context", "sparse_layers = own"),
        (PERM, {"old_synapse_lr": 0.5}, "weight_decay", "would move the old synapses"),
        (PERM, SLOW | {"cumul": True}, "old_synapse_lr", "no synapse is old"),
        (PERM, SLOW | {"old_synapse_rule": "importance", "engine": "sparse"}, "engine", "gradient"),
        (PERM, GROW | {"cumul": True}, "dynamic", "from task to task"),
        (PERM, GROW | {"sparse_layers": "nupic"}, "dynamic", "sparse_layers = own"),
        (PERM, GROW | {"max_density_fc": 0.01}, "max_density_fc", "nothing could grow"),
        (PERM, GROW | {"max_density_fc": 0.05}, "max_density_fc", "max_density_fc = 0.05 is not"),
        (PERM, GROW | {"grow_per_task": 0.0006}, "grow_per_task", "a unit of 784 inputs"),
        (
            PERM,
            GROW
            | {
                "hidden_layers": 2,
                "hidden_units": 1000,
                "percent_on_fc": 0.1,
                "grow_per_task": 0.00063,
            },
            "grow_per_task",
            "a unit of 784 inputs",
        ),
        (PERM, GROW | {"grow_units": "fresh", "grow_per_task": 5e-5}, "grow_per_task", "no fresh"),
        (PERM, GROW | CONTEXT | FEW_FRESH, "grow_per_task", "no fresh"),
        (PERM, GROW | {"initial_density_fc": 0.0006}, "initial_density_fc", "no weight"),
        (CNN, CONTEXT, "context", "contexts are for MLPs"),
    ],
)
def test_contradictions(exp: Experiment, change: dict[str, Any], key: str, reason: str) -> None:
    assert list(rules.contradictions(exp)) == []
    [(keys, why)] = rules.contradictions(replace(exp, **change))
    assert keys[0] == key
    assert reason in why
    assert set(keys) <= set(KEYS)


def test_pictures_of_ones_own_have_their_own_sizes() -> None:
    """What counts inputs is asked again once they are known, and not before where they are not."""
    few = replace(PERM, weight_sparsity_fc=0.0006)
    own = replace(few, data_dir="elsewhere")
    assert list(rules.contradictions(own)) == []
    assert list(rules.misfits(own, (1, 64, 64))) == []
    for exp, picture, key, reason in (
        (own, (1, 28, 28), "weight_sparsity_fc", "a unit of 784 inputs; choose at least 0.00128"),
        (replace(PERM, weight_sparsity_fc=0.1), (1, 2, 2), "weight_sparsity_fc", "4 inputs"),
        (replace(PERM, **GROW), (1, 2, 2), "initial_density_fc", "4 inputs"),
        (CNN, (1, 8, 30), "cnn", "leave nothing of pictures of 8 × 30"),
        (CNN, (3, 2000, 2000), "hidden_units", "billion weights"),
    ):
        keys, why = next(rules.misfits(exp, picture))
        assert keys[0] == key and reason in why
    for exp in (PERM, CNN):
        assert list(rules.misfits(exp, (1, 9, 9))) == []
    assert list(rules.misfits(PERM, (1, 1, 1))) == []


@pytest.mark.parametrize(
    "exp",
    [
        replace(PERM, class_order=(1, 2)),  # no classes to deal out
        replace(SPLIT, class_order=tuple(reversed(range(10)))),
        replace(SPLIT, class_order="random"),
        replace(PERM, percent_on_fc=0.000126),  # round(0.504) = 1 winner
        replace(PERM, sparsify=False, percent_on_fc=0.0001, weight_sparsity_fc=0.0001),
        replace(PERM, percent_on_conv=0.001, weight_sparsity_conv=0.001),
        replace(PERM, nesterov=False, momentum=0.0),
        replace(CIFAR, data="sample"),
    ],
)
def test_no_contradiction(exp: Experiment) -> None:
    assert list(rules.contradictions(exp)) == []


def test_doubts() -> None:
    one_class = replace(CIFAR, num_batch=10)
    [(keys, why)] = rules.doubts(one_class)
    assert keys[0] == "num_batch"
    assert "the accuracy is always 100 %" in why
    assert list(rules.doubts(replace(one_class, scenario="class"))) == []
    for exp in (PERM, SPLIT, CIFAR, CIFAR100, CNN):
        assert list(rules.doubts(exp)) == []

    [(keys, why)] = rules.doubts(replace(PERM, **SLOW, num_batch=1))
    assert keys[0] == "old_synapse_lr"
    apart = replace(PERM, **SLOW, **CONTEXT)
    [(keys, why)] = rules.doubts(apart)
    assert "contexts share no unit" in why
    for change in ({"context_overlap": 0.1}, {"num_batch": 11}, {"context": "none"}):
        assert list(rules.doubts(replace(apart, **change))) == []

    [(keys, why)] = rules.doubts(replace(PERM, percent_on_fc=0.8, k_inference_factor=1.5))
    assert keys[0] == "k_inference_factor"
    assert why.endswith("so all 4000 win")


def test_the_network_is_the_one_that_the_rules_speak_of() -> None:
    """exps may not import models, so both name these sizes."""
    cnn = pytest.importorskip("models.cnn", reason="needs torch")
    assert (cnn.CHANNELS, cnn.KERNEL) == (rules.CONV_CHANNELS, rules.CONV_KERNEL)
