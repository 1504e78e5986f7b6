"""Results made by hand, as a run would leave them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exps.config import Experiment, as_dict

Save = Callable[..., Path]


def accuracies(seed: int, tasks: int, lost: float, cumul: bool) -> np.ndarray:
    """Learned to 95 %, forgotten by `lost` with every task after that, and 10 % before."""
    noise = np.random.default_rng([seed, round(1e6 * lost)]).normal(0, 0.01, (tasks, tasks))
    behind = np.subtract.outer(np.arange(tasks), np.arange(tasks))
    accs = np.where(behind < 0, 0.1, 0.95 * np.exp(-lost * np.maximum(behind, 0)))
    accs = np.clip(accs + noise, 0, 1)
    return np.full((1, tasks), 0.97) + noise[:1] if cumul else accs


def make_stats(exp: Experiment, lost: float = 0.02) -> dict[str, Any]:
    """What a run of this experiment could have measured, with every key a result has."""
    rng, tasks, units = np.random.default_rng(exp.seed), exp.num_batch, exp.hidden_units
    trainings = 1 if exp.cumul else tasks
    epochs = exp.train_ep + (trainings - 1) * exp.train_ep_inc
    layers = exp.hidden_layers if exp.sparsify else 0
    share = exp.percent_on_fc if exp.sparsify else 0.2
    most = np.full(layers, units * 0.3)
    return {
        "accs": accuracies(exp.seed, tasks, lost, exp.cumul),
        "untrained": 0.1 + rng.normal(0, 0.005, tasks),
        "perc_on_avg": 100 * share * (1 + 0.3 * np.exp(-np.arange(epochs) / 3)),
        "perc_on_std": np.full(epochs, 0.1),
        "on_idxs": rng.geometric(0.01, (trainings, units)) * (rng.random(units) > 0.1),
        "loss": np.linspace(2, 0.3, epochs),
        "train_acc": np.linspace(0.3, 0.9, epochs),
        "weight_density": {"classifier": 1.0, "linear1": exp.weight_sparsity_fc},
        "entropy": np.outer(1 - 0.7 * np.exp(-np.arange(epochs) / 4 - 0.2), most),
        "max_entropy": most,
        "k_winner_layers": [f"kwinners{i + 1}" for i in range(layers)],
        "costs": [
            layer("linear1", 784 * units, units, exp.weight_sparsity_fc),
            layer("classifier", 10 * units, 10, 1.0),
        ],
        "elapsed": 12.5,
        "meta": {
            "seed": exp.seed,
            "code": "0" * 64,
            "version": "1.0.0",
            "started": "2026-11-22T11:00:00",
            "status": "complete",
        },
    }


def layer(name: str, weights: int, biases: int, density: float) -> dict[str, Any]:
    active = int(weights * density)
    return {
        "name": name,
        "kind": "Linear",
        "params": weights + biases,
        "active_params": active + biases,
        "macs": weights,
        "active_macs": active // 2,
    }


def cut_short(stats: dict[str, Any], done: int) -> dict[str, Any]:
    """The stats of a run that was interrupted after so many tasks."""
    accs = stats["accs"].copy()
    accs[done:] = np.nan
    meta = stats["meta"] | {"status": "interrupted"}
    return stats | {"accs": accs, "on_idxs": stats["on_idxs"][:done], "meta": meta}


def write_result(path: Path, config: Any, stats: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps([config, stats], protocol=4))
    return path


@pytest.fixture(scope="session")
def saver() -> Callable[[Path], Save]:
    """Makes a `save` for a folder; see there."""

    def make(folder: Path) -> Save:
        def write(
            name: str = "Sparse",
            lost: float = 0.02,
            change: Callable[[dict[str, Any]], dict[str, Any]] = lambda stats: stats,
            done: int | None = None,
            file: str = "",
            **keys: Any,
        ) -> Path:
            small = {"num_batch": 3, "hidden_units": 40, "percent_on_fc": 0.1}
            exp = Experiment(name=name, **{**small, **keys})
            number = len(list(folder.glob("*.pkl"))) if folder.exists() else 0
            path = folder / (file or f"r{number:03}_s{exp.seed}.pkl")
            stats = make_stats(exp, lost)
            if done is not None:
                stats = cut_short(stats, done)
            return write_result(path, as_dict(exp), change(stats))

        return write

    return make


@pytest.fixture
def save(tmp_path: Path, saver: Callable[[Path], Save]) -> Save:
    """Writes the result of an experiment with these keys into tmp_path / results; cut short after
    `done` tasks; `change` may change its stats.
    """
    return saver(tmp_path / "results")
