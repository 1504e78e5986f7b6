"""What a run counts of its network: densities after training, and entropies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from utils.results.metrics import measure


@pytest.mark.parametrize("engine", ["reference", "sparse", "dense"])
def test_the_density_is_still_the_configured_one_after_training(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str
) -> None:
    exp = experiment(engine=engine, hidden_layers=2, weight_sparsity_fc=0.3, weight_decay=0.01)
    record, trainer = trained(exp, stream_of(exp))
    assert record.weight_density == {
        "hidden.0.linear": 235 / 784,  # of 784 weights a unit keeps round(235.2)
        "hidden.1.linear": 19 / 64,
        "heads.0": 1.0,
    }
    for block in trainer.model.blocks:
        layer = block.linear
        assert not layer.weight[layer.zero_mask].any()
        assert layer.weight[~layer.zero_mask].all()


@pytest.mark.parametrize("dynamic", ["set", "grow"])
def test_the_density_is_that_of_the_census(
    experiment: Callable, stream_of: Callable, trained: Callable, dynamic: str
) -> None:
    exp = experiment(dynamic=dynamic, initial_density_fc=0.05, train_ep=2, train_ep_inc=2)
    record, _ = trained(exp, stream_of(exp, train=200))
    found = record.stats()
    assert found["weight_density"]["hidden.0.linear"] == found["density"][-1, 0]
    assert found["costs"][0]["active_params"] == found["synapses"][-1, 0] + exp.hidden_units


@pytest.mark.parametrize("share", [0.125, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("boost", [0.0, 100.0])
def test_no_entropy_is_above_its_maximum(
    experiment: Callable, stream_of: Callable, trained: Callable, share: float, boost: float
) -> None:
    """Not where more than half of the units win either: of the winners some are below zero."""
    exp = experiment(percent_on_fc=share, dropout=0.0, boost_strength=boost, hidden_layers=2)
    record, _ = trained(exp, stream_of(exp))
    assert 0.2 < measure(record.stats())["entropy_ratio"] <= 1
