"""The experiments that come with the project."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from exps import config
from exps.config import ABOUT, KEYS, Experiment
from utils.results.files import load_results

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PERMUTED = {
    "benchmark": "mnist",
    "mnist_mode": "perm",
    "scenario": "domain",
    "num_batch": 10,
    "cumul": False,
    "dropout": 0.5,
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "mb_size": 128,
    "train_ep": 2,
    "train_ep_inc": 2,
}
BOOSTED = {
    "sparsify": True,
    "boost_strength": 1.0,
    "boost_strength_factor": 1.0,
    "k_inference_factor": 1.0,
    "duty_cycle_period": 1000,
    "weight_sparsity_fc": 1.0,
    "weight_sparsity_conv": 1.0,
}
UNBOOSTED = {
    "sparsify": True,
    "boost_strength": 0.0,
    "boost_strength_factor": 1.0,
    "k_inference_factor": 1.0,
    "duty_cycle_period": 1000,
}
DENSE = {"sparsify": False}
PLAIN_SGD = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "mb_size": 128}
MLP_1 = {"cnn": False, "hidden_units": 4000, "hidden_layers": 1}
MLP_2 = {"cnn": False, "hidden_units": 4000, "hidden_layers": 2}
SPLIT = {
    "benchmark": "mnist",
    "mnist_mode": "split",
    "scenario": "task",
    "num_batch": 5,
    "dropout": 0.5,
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0,
    "mb_size": 128,
    "train_ep": 30,
    "train_ep_inc": 30,
}
CIFAR = {
    "benchmark": "cifar",
    "scenario": "task",
    "data": "full",
    "num_batch": 5,
    "cnn": True,
    "hidden_units": 1024,
    "dropout": 0.5,
    **PLAIN_SGD,
}
CIFAR100 = {
    "benchmark": "cifar100",
    "scenario": "task",
    "num_batch": 10,
    "dropout": 0.5,
    "lr": 0.0001,
    "train_ep": 60,
    **MLP_2,
    **PLAIN_SGD,
}
COMPARED = {
    "benchmark": "mnist",
    "mnist_mode": "perm",
    "padding": 2,
    "scenario": "domain",
    "num_batch": 10,
    "hidden_units": 1000,
    "hidden_layers": 2,
    "dropout": 0.0,
    "sparsify": False,
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "mb_size": 128,
    "train_steps": 5000,
    "train_steps_inc": 5000,
    "eval_tasks": "seen",
}
COMPARED_SPLIT = COMPARED | {
    "mnist_mode": "split",
    "padding": 0,
    "scenario": "class",
    "outputs": "seen",
    "num_batch": 5,
    "hidden_units": 400,
    "lr": 1e-3,
    "train_steps": 2000,
    "train_steps_inc": 2000,
}

PATCHES = {
    "benchmark": "mnist",
    "mnist_mode": "split",
    "num_batch": 5,
    "model": "patches",
    "filters": 400,
    "patch_size": 6,
    "patch_stride": 1,
    "patch_grid": 3,
    "patch_whitening": 1.0,
    "sparsify": True,
    "percent_on_conv": 0.05,
    "classifier": "ridge",
    "features": "random",
    "ridge_strength": 100.0,
    "eval_tasks": "seen",
}
PATCHES_OF_CIFAR = {name: value for name, value in PATCHES.items() if name != "mnist_mode"} | {
    "benchmark": "cifar",
    "data": "full",
    "filters": 800,
    "patch_whitening": 0.05,
    "patch_signs": True,
    "patch_mirrored": True,
    "patch_power": 0.5,
    "ridge_strength": 3000.0,
}

EXPECTED: dict[str, dict[str, Any]] = {
    "DEFAULT": PERMUTED | MLP_1 | BOOSTED | {"percent_on_fc": 0.001},
    "MLP_1Layer": PERMUTED | MLP_1 | DENSE,
    "MLP_1LayerSparse": PERMUTED | MLP_1 | BOOSTED | {"percent_on_fc": 0.001},
    "MLP_2Layers": PERMUTED | MLP_2 | DENSE,
    "MLP_2LayersSparse": PERMUTED | MLP_2 | BOOSTED | {"percent_on_fc": 0.001},
    "CNN": PERMUTED | DENSE | {"cnn": True, "hidden_units": 512},
    "CNNSparse": PERMUTED
    | BOOSTED
    | {"cnn": True, "hidden_units": 512, "percent_on_fc": 0.05, "percent_on_conv": 0.05},
    "SplitMNIST": SPLIT | MLP_2 | DENSE,
    "SplitMNISTSparse": SPLIT
    | MLP_2
    | UNBOOSTED
    | {"percent_on_fc": 0.008, "weight_sparsity_fc": 0.5},
    "iCIFAR10": CIFAR
    | UNBOOSTED
    | {
        "lr": 0.01,
        "train_ep": 30,
        "train_ep_inc": 30,
        "percent_on_fc": 0.1,
        "percent_on_conv": 0.99,
        "weight_sparsity_fc": 0.1,
        "weight_sparsity_conv": 0.99,
    },
    "iCIFAR10Dense": CIFAR | DENSE | {"lr": 0.01, "train_ep": 30, "train_ep_inc": 30},
    "SlimResNet": DENSE
    | PLAIN_SGD
    | {
        "benchmark": "cifar",
        "scenario": "task",
        "num_batch": 5,
        "model": "resnet18",
        "channels": 20,
        "norm": "batch",
        "augment": "crop_flip",
        "lr": 0.1,
        "mb_size": 32,
        "train_ep": 50,
        "train_ep_inc": 50,
    },
    "SparseConv": {
        "benchmark": "cifar",
        "scenario": "task",
        "num_batch": 5,
        "model": "resnet18",
        "channels": 40,
        "norm": "batch",
        "augment": "crop_flip",
        "percent_on_conv": 0.1,
        "context": "given",
        "context_units": 8,
        "lr": 0.1,
        "lr_schedule": "cosine",
        "weight_decay": 0.0005,
        "mb_size": 128,
        "train_ep": 30,
        "train_ep_inc": 30,
        "eval_tasks": "seen",
    },
    "CNNCumul": CIFAR | DENSE | {"cumul": True, "lr": 0.001, "train_ep": 60},
    "Cifar100MLP": CIFAR100
    | UNBOOSTED
    | {"percent_on_fc": 0.1, "weight_sparsity_fc": 0.4, "train_ep_inc": 60},
    "Cifar100Cumul": CIFAR100 | DENSE | {"cumul": True},
    "PermDomain": COMPARED | {"methods": (), "expected_acc": 78.5},
    "PermDomainEWC": COMPARED | {"methods": ("ewc",), "ewc_strength": 100.0, "ewc_fisher": "exact"},
    "PermDomainER": COMPARED | {"methods": ("er",), "buffer_per_class": 10, "er_weight": "tasks"},
    "PermTaskXdG": COMPARED | {"scenario": "task", "methods": ("xdg",), "xdg_gated": 0.6},
    "SplitClassSI": COMPARED_SPLIT | {"methods": ("si",), "si_strength": 5000.0},
    "SplitClassJoint": COMPARED_SPLIT | {"cumul": True, "train_steps": 10_000},
    "Smoke": {"benchmark": "cifar", "data": "sample", "scenario": "task"},
    "SplitMNISTClass": PATCHES | {"scenario": "class"},
    "SplitMNISTDomain": PATCHES | {"scenario": "domain"},
    "SplitMNISTTask": PATCHES | {"scenario": "task"},
    "CIFAR10Class": PATCHES_OF_CIFAR | {"scenario": "class"},
    "CIFAR100Class": PATCHES_OF_CIFAR
    | {"scenario": "class", "benchmark": "cifar100", "num_batch": 10, "expected_acc": None},
    "iCIFAR10Sparse": PATCHES_OF_CIFAR
    | {"scenario": "task", "filters": 1600, "patch_grid": 2, "ridge_strength": 300.0},
}


def test_every_experiment_of_2019_is_there() -> None:
    assert set(EXPECTED) <= set(config.sections())
    assert all(config.sections().values()), "a description each"
    assert config.check() == ([], [])


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name: str) -> None:
    exp, warnings = config.load(name)
    assert warnings == []
    assert exp.name == name
    assert {key: getattr(exp, key) for key in EXPECTED[name]} == EXPECTED[name]
    assert exp.description == config.sections()[name]


def test_the_default_section_holds_the_defaults() -> None:
    """So a file without [DEFAULT] has the same ones."""
    exp, _ = config.load()
    about = {key: KEYS[key].default for key in ABOUT}
    assert replace(exp, **about) == Experiment(name="DEFAULT")
    twin, _ = config.load("MLP_1LayerSparse")
    assert replace(twin, name="DEFAULT", description=exp.description) == exp


FIGURES_OF_2019 = {
    "DEFAULT": 86.6,
    "MLP_1Layer": 65.7,
    "MLP_1LayerSparse": 86.6,
    "MLP_2Layers": 48.0,
    "MLP_2LayersSparse": 61.0,
}


def test_the_accuracies_that_are_expected() -> None:
    """Those of the result files of 2019, as docs/experiments.md has them too, and what was measured
    here."""
    found = {name: config.load(name)[0] for name in config.sections()}
    stated = {name: exp.expected_acc for name, exp in found.items() if exp.expected_acc is not None}
    own = {name for name in stated if found[name].expected_source.startswith("docs/")}
    ours = ("SplitMNIST", "SplitContexts", "CIFAR10", "Contexts", "SparseConv", "iCIFAR10Sparse")
    assert own == {name for name in stated if name.startswith(ours)}
    stated = {name: acc for name, acc in stated.items() if name not in own}
    compared = {name: acc for name, acc in stated.items() if name.startswith(("Split", "Perm"))}
    assert len(compared) == 61 and compared["PermDomainEWC"] == 94.3  # of another paper
    stated = {name: acc for name, acc in stated.items() if name not in compared}
    assert stated == FIGURES_OF_2019
    assert {found[name].expected_source for name in stated} == {"2019 result, one run"}


def test_the_tolerance_is_what_the_file_says() -> None:
    """95 % of the differences between two single runs, by the spread of the reference results."""
    for name, t, twin in (
        ("MLP_1LayerSparse", 2.262, "DEFAULT"),
        ("MLP_1Layer", 2.776, "MLP_1Layer"),
        ("MLP_2LayersSparse", 2.776, "MLP_2LayersSparse"),
        ("MLP_2Layers", 2.776, "MLP_2Layers"),
    ):
        found = [load_results(path)[1]["accs"][-1] for path in REFERENCE.glob(f"{name}_*.pkl")]
        assert len(found) == (10 if name == "MLP_1LayerSparse" else 5)
        tolerance = round(t * sqrt(2) * stdev(100 * accs.mean() for accs in found))
        assert {config.load(n)[0].expected_tol for n in (name, twin)} == {tolerance}
