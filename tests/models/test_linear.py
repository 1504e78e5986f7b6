"""Classifiers without a network before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import make_stream
from exps.config import ConfigError, Experiment, from_texts
from models import make_model
from models.costs import layer_costs
from utils.training.trainer import Trainer


def experiment(file: Any, **keys: Any) -> Experiment:
    texts = {"benchmark": "arrays", "data_file": str(file), "model": "linear", "num_batch": "3"}
    return from_texts("Test", texts | {"device": "cpu", "scenario": "class"} | keys)


@pytest.fixture
def features(tmp_path: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Six classes of 20 features, and where they are."""
    draw, y = np.random.default_rng(0), np.arange(120) % 6
    x = (2 * draw.normal(size=(6, 20))[y] + draw.normal(size=(120, 20))).astype(np.float32)
    half = {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]}
    np.savez(tmp_path / "f.npz", **half)
    return tmp_path / "f.npz", half


def test_it_is_its_classifiers_alone() -> None:
    model = make_model(Experiment(name="Test", model="linear"), (2, 3, 4), (5, 2))
    x = torch.randn(7, 2, 3, 4)
    torch.testing.assert_close(model(x, 1), model.heads[1](x.flatten(1)))
    assert sum(p.numel() for p in model.parameters()) == 24 * 7 + 7
    assert [cost.macs for cost in layer_costs(model, (2, 3, 4))] == [24 * 5, 24 * 2]


def test_nearest_means_are_of_the_features_themselves(features: Any) -> None:
    file, half = features
    exp = experiment(file, classifier="ncm", features="random")
    run = Trainer.of(exp, make_stream(exp))
    run.run()
    x, y = half["x_train"], half["y_train"]
    first = y < 2  # by whose mean and deviation all are taken
    x, tested = ((part - x[first].mean(0)) / x[first].std(0) for part in (x, half["x_test"]))
    means = np.stack([x[y == c].mean(0) for c in range(6)])
    said = ((tested[:, None] - means) ** 2).sum(2).argmin(1) == half["y_test"]
    right = [said[half["y_test"] // 2 == task].mean() for task in range(3)]
    np.testing.assert_allclose(run.record.accs[-1], right)


@pytest.mark.parametrize("engine", ["auto", "reference", "dense"])
@pytest.mark.parametrize("keys", [{}, {"methods": "er"}, {"methods": "ewc"}, {"precision": "bf16"}])
def test_it_learns_with_every_engine(features: Any, engine: str, keys: dict[str, str]) -> None:
    exp = experiment(features[0], engine=engine, outputs="seen", lr="0.05", train_ep="20", **keys)
    run = Trainer.of(exp, make_stream(exp))
    run.run()
    assert run.record.accs[0, 0] > 0.8


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"engine": "sparse"}, "is for MLPs"),
        ({"engine": "stacked"}, "is for MLPs"),
        ({"methods": "xdg", "scenario": "task"}, "linear does not say what that is"),
        ({"old_synapse_lr": "0.5", "weight_decay": "0"}, "choose old_synapse_rule = importance"),
    ],
)
def test_what_needs_hidden_layers_is_refused(features: Any, keys: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        experiment(features[0], **keys)


@pytest.mark.parametrize("key", ["hidden_units", "sparsify", "percent_on_fc", "dynamic"])
def test_keys_of_hidden_layers_do_not_count(key: str) -> None:
    assert not Experiment(name="Test", model="linear").counts(key)
