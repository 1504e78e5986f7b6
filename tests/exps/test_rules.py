"""Values that contradict each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exps import rules
from exps.config import ConfigError, from_texts, never
from exps.experiment import Experiment
from exps.manual import all_keys
from sparse_syn import SparseWeights
from utils.methods import grow, rewire
from utils.methods.base import Moment

PERM = Experiment(name="a")
SPLIT = Experiment(name="a", mnist_mode="split", num_batch=5)
CLASSES = replace(SPLIT, scenario="class")
CIFAR = Experiment(name="a", benchmark="cifar", num_batch=5)
CIFAR100 = Experiment(name="a", benchmark="cifar100")
CONTEXT = {"context": "prototype"}
SLOW = {"old_synapse_lr": 0.5, "weight_decay": 0.0}
GROW = {"dynamic": "grow"}
FRESH = {"grow_units": "fresh"}
SET = {"dynamic": "set"}
FILTERS = {"initial_density_conv": 0.2}
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
        (PERM, {"data": "sample"}, "data", "there is no sample of mnist"),
        (CIFAR100, {"data": "sample"}, "data", "there is no sample of cifar100"),
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
        (
            PERM,
            GROW | {"max_density_fc": 0.0502},
            "max_density_fc",
            "are as many synapses of a unit of 784",
        ),
        (PERM, {"hidden_units": 10**6, "num_batch": 200}, "hidden_units", "would have 763 MiB"),
        (PERM, {"train_ep_inc": 100_000, "num_batch": 1000}, "train_ep", "above all entropy"),
        (
            PERM,
            SLOW | {"num_batch": 1000, "scenario": "task"},
            "num_batch",
            "above all synapses_by_birth, and the limit is 512 MiB; take fewer tasks",
        ),
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
        (CNN, GROW | {"initial_density_conv": 0.5}, "max_density_conv", "so nothing could grow"),
        (CNN, SET | {"initial_density_conv": 0.01}, "initial_density_conv", "no weight"),
        (CNN, GROW | FILTERS | {"grow_per_task": 0.01}, "grow_per_task", "a unit of 25 inputs"),
        (CNN, GROW | FILTERS | FRESH | {"grow_per_task": 0.001}, "grow_per_task", "no fresh unit"),
        (SPLIT, {"stream": "random"}, "stream", "choose scenario = domain or class"),
        (PERM, CONTEXT | {"stream": "blurry"}, "stream", "contexts trains the units of one task"),
        (PERM, {"stream": "blurry", "methods": ("lwf",)}, "stream", "several views at a time"),
        (CLASSES, {"stream": "blurry", "methods": ("icarl",)}, "stream", "a class when its task"),
        (
            PERM,
            {"stream": "random", "methods": ("er",), "er_weight": "tasks"},
            "er_weight",
            "choose er_weight = pictures",
        ),
    ],
)
def test_contradictions(exp: Experiment, change: dict[str, Any], key: str, reason: str) -> None:
    assert list(rules.contradictions(exp)) == []
    [(keys, why)] = rules.contradictions(replace(exp, **change))
    assert keys[0] == key
    assert reason in why
    assert set(keys) <= set(all_keys())


def test_mixed_pictures_come_in_equal_parts() -> None:
    uneven = replace(CIFAR, scenario="class", classes_per_task=(6, 3, 1))
    assert rules.usual_pictures(uneven) == [30_000, 15_000, 5_000]
    assert rules.usual_pictures(replace(uneven, stream="blurry")) == [30_000, 15_000, 5_000]
    assert rules.usual_pictures(replace(uneven, stream="random")) == [16_666] * 3
    one = replace(CIFAR, num_batch=1, stream="random")  # with nothing to be mixed with
    assert list(rules.contradictions(one)) == [] and rules.usual_pictures(one) == [50_000]


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
        (CNN, (1, 1, 512), "cnn", "these are features; choose model = mlp or linear"),
        (
            replace(PERM, classifier="ridge", hidden_units=20_000),
            *((1, 1, 512), "hidden_units", "all pairs of 20,000 features; the limit is 16,384"),
        ),
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
        replace(PERM, hidden_units=10**6, num_batch=100),  # 381 MiB of counts in 32 bits
        replace(PERM, hidden_units=10**6, num_batch=200, record_stats=False),
        replace(PERM, num_batch=1000, scenario="task"),
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

    few = replace(SPLIT, num_batch=3, classes_per_task=())
    [(keys, why)] = rules.doubts(few)
    assert keys == ("num_batch",) and why.startswith("4 of the 10 classes are in no task")
    assert list(rules.doubts(replace(few, classes_per_task=(4, 3, 3)))) == []
    assert list(rules.doubts(replace(few, mnist_mode="perm"))) == []

    [(keys, why)] = rules.doubts(replace(PERM, **SLOW, num_batch=1))
    assert keys[0] == "old_synapse_lr"
    apart = replace(PERM, **SLOW, **CONTEXT)
    [(keys, why)] = rules.doubts(apart)
    assert "contexts that share no unit (context_overlap) share no synapse" in why
    assert "so old_synapse_lr can do nothing" in why
    [(keys, why)] = rules.doubts(replace(PERM, **CONTEXT, methods=("si",)))
    assert keys[0] == "methods" and "so si can do nothing" in why
    for change in ({"context_overlap": 0.1}, {"context": "none"}):
        assert list(rules.doubts(replace(apart, **change))) == []
    [(keys, why)] = rules.doubts(replace(apart, num_batch=11))
    assert keys[0] == "context_units" and "11 contexts of 400 take units of earlier ones" in why

    [(keys, why)] = rules.doubts(replace(PERM, percent_on_fc=0.8, k_inference_factor=1.5))
    assert keys[0] == "k_inference_factor"
    assert why.endswith("so all 4000 win")


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"k_inference_factor": 1.2}, "k_inference_factor", "nothing: 4 units win in evaluation"),
        ({"weight_sparsity_fc": 0.9999}, "weight_sparsity_fc", "leaves out no weight of a unit of"),
        ({"dynamic": "rigl", "initial_density_fc": 0.9999}, "initial_density_fc", "none can move"),
        (CONTEXT | {"context_overlap": 0.001}, "context_overlap", "of 400 units is none"),
        ({"patience": 1, "watched": 0.6}, "watched", "more pictures of a task are watched"),
        (CONTEXT | {"train_ep_inc": 0}, "train_ep_inc", "not trained, so contexts can do nothing"),
        (
            GROW | SLOW | {"train_ep_inc": 0},
            "train_ep_inc",
            "so grow and old_synapses can do nothing",
        ),
    ],
)
def test_what_comes_to_nothing(change: dict[str, Any], key: str, reason: str) -> None:
    [(keys, why)] = rules.doubts(replace(PERM, **change))
    assert keys[0] == key
    assert reason in why
    assert list(rules.doubts(replace(PERM, **change | {key: 0.5 if key == "watched" else 1}))) == []


@pytest.mark.parametrize(
    ("change", "never"),
    [
        ({"dynamic": "set", "train_ep": 1, "train_ep_inc": 1}, "dynamic"),
        ({"dynamic": "set", "train_ep": 1}, ""),
        ({"dynamic": "set"}, ""),
        ({"dynamic": "rigl"}, ""),
        ({"dynamic": "rigl", "sparsify": False, "train_ep": 1}, ""),
        ({"dynamic": "rigl", "mnist_mode": "split", "num_batch": 5}, ""),  # 188 steps
        ({"dynamic": "rigl", "mb_size": 1000}, "dynamic"),  # 120 steps
        ({"dynamic": "rigl", "mb_size": 1000, "cumul": True}, ""),
        ({"dynamic": "rigl", "validation": 0.9}, "dynamic"),
        ({"dynamic": "rigl", "benchmark": "cifar", "num_batch": 5, "data": "sample"}, "dynamic"),
        (GROW | {"grow_every": 703}, ""),
        (GROW | {"grow_every": 704}, "grow_every"),  # three quarters of 938 steps
        (GROW | {"grow_every": 0}, ""),
    ],
)
def test_what_never_happens_with_the_usual_pictures(change: dict[str, Any], never: str) -> None:
    exp = replace(PERM, **change)
    found = list(rules.never_due(exp, rules.usual_steps(exp)))
    assert [keys[0] for keys, _ in found] == [never] * bool(never)


@settings(max_examples=30)
@given(
    st.sampled_from(["set", "rigl", "grow"]),
    st.lists(st.integers(1, 150), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 300),
)
def test_what_never_happens_is_what_the_run_never_does(
    dynamic: str, steps: list[int], first: int, later: int, every: int
) -> None:
    """By asking before every step, as a run does."""
    keys = {"train_ep": first, "train_ep_inc": later, "grow_every": every}
    exp = replace(PERM, dynamic=dynamic, num_batch=len(steps), **keys)
    tasks = [(n, exp.steps(i, n)) for i, n in enumerate(steps)]
    layer = SparseWeights(nn.Linear(784, 4000), weight_sparsity=exp.initial_density_fc)
    count = int((~layer.zero_mask).sum())
    method = (grow if dynamic == "grow" else rewire).Method(exp, None)
    grown, moved = 0, 0
    for task, (epoch, total) in enumerate(tasks):
        due = [method.due(Moment(task, n, epoch, total), layer) for n in range(total)]
        grown = max(grown, sum(amount > 0 for amount in due))
        moved += sum(round(count * amount) for amount in due)
    found = [keys[0] for keys, _ in rules.never_due(exp, steps)]
    if dynamic == "grow":
        assert found == ["grow_every"] * (every > 0 and grown < 2)
    else:
        assert found == ["dynamic"] * (moved == 0)


def test_a_value_is_told_once() -> None:
    exp = Experiment(name="x", patience=3, eval_every=500, lr_warmup=900)
    told = never(exp, [100] * 10, (1, 28, 28))
    for key, text in zip(("eval_every", "lr_warmup", "patience"), told, strict=True):
        assert text.startswith(f"[x] {key} = ") and text.count(key) == 1


def test_growth_that_ends_before_the_tasks_do() -> None:
    keys = {"dynamic": "grow", "initial_density_fc": 0.1, "max_density_fc": 0.2}
    exp = replace(PERM, **keys, grow_per_task=0.01, num_batch=11)
    [(found, why)] = rules.doubts(exp)
    assert found[:2] == ("grow_per_task", "max_density_fc")
    assert why.startswith("after 10 of 11 tasks max_density_fc is reached, and nothing grows")
    [(_, why)] = rules.doubts(replace(exp, grow_units="fresh"))
    assert "no unit is fresh any more" in why and "= 0.0091 lasts for all" in why
    alone = CONTEXT | {"num_batch": 5, "grow_per_task": 0.1}
    for change in ({"num_batch": 10}, {"grow_per_task": 0.009}, alone):
        assert list(rules.doubts(replace(exp, **change))) == []


@pytest.mark.parametrize("dynamic", ["set", "rigl"])
def test_growth_and_rewiring_exclude_each_other(dynamic: str) -> None:
    texts = {"methods": "grow", "dynamic": dynamic, "initial_density_fc": "0.1"}
    with pytest.raises(ConfigError, match=f"methods = grow .*dynamic = {dynamic} .*choose one"):
        from_texts("Test", texts)
    assert from_texts("Test", texts | {"dynamic": "grow"}).dynamic == "grow"


def test_adam_with_what_was_meant_for_sgd() -> None:
    exp = replace(PERM, optimizer="adam", lr=0.001, weight_decay=0.0)
    assert list(rules.doubts(exp)) == []
    [(keys, why)] = rules.doubts(replace(exp, weight_decay=1e-4))
    assert keys[0] == "weight_decay" and "a unit that does not win fades" in why
    for change in ({"optimizer": "adamw"}, {"sparsify": False}):
        assert list(rules.doubts(replace(exp, **change, weight_decay=1e-4))) == []
    for optimizer in ("adam", "adamw"):
        [(keys, _)] = rules.doubts(replace(exp, optimizer=optimizer, lr=0.1))
        assert keys[0] == "lr"


def test_doubts_about_a_part_of_the_network() -> None:
    """What is drawn or wins in the whole network is other than in the part that a task has."""
    exp = replace(PERM, **CONTEXT, num_batch=2, hidden_layers=2, percent_on_fc=0.01)
    [(_, why)] = rules.doubts(replace(exp, k_inference_factor=20.0))
    assert why.startswith("k_inference_factor = 20 with percent_on_fc = 0.01 asks for more winners")
    assert why.endswith("so all 400 win")
    assert not list(rules.doubts(replace(exp, k_inference_factor=10.0)))
    [(keys, why)] = rules.doubts(replace(exp, weight_sparsity_fc=0.01))
    assert keys[0] == "weight_sparsity_fc" and "4 of 400 weights in the mean" in why
    assert not list(rules.doubts(replace(exp, weight_sparsity_fc=0.02)))
    assert not list(rules.doubts(replace(exp, weight_sparsity_fc=0.01, hidden_layers=1)))


def test_a_key_of_what_is_not_chosen_says_what_it_counts_with() -> None:
    assert replace(PERM, **CONTEXT, sparsify=False).why_idle("context_units") == (
        "a context and sparsify"
    )
