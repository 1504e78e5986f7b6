"""Choosing between our sparse layers and those of nupic.torch, which is not installed for tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import signature
from types import ModuleType

import pytest
import torch
from torch import nn

import sparse_syn
from exps.config import Experiment
from models import ModelError, make_model
from models.nupic import sparse_library
from sparse_syn import functional

Make = Callable[..., Experiment]


@pytest.fixture
def no_nupic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nupic", None)


@pytest.fixture
def nupic(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library under nupic.torch's name, with layers that are told apart from ours."""
    library = ModuleType("nupic.torch.modules")
    for name in ("KWinners", "KWinners2d", "SparseWeights", "SparseWeights2d"):
        setattr(library, name, type(name, (getattr(sparse_syn, name),), {}))
    for name in ("nupic", "nupic.torch"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "nupic.torch.modules", library)
    return library


def test_our_own_need_nothing(no_nupic: None) -> None:
    assert sparse_library("own") is sparse_syn


@pytest.mark.parametrize("cnn", [True, False])
def test_a_missing_library_is_one_clear_error(experiment: Make, no_nupic: None, cnn: bool) -> None:
    exp = experiment(sparse_layers="nupic", cnn=cnn)
    with pytest.raises(ModelError) as caught:
        make_model(exp, (1, 28, 28), [10])
    message = str(caught.value)
    assert message.count("\n") == 2  # what, why, what to do
    for part in ("https://github.com/numenta/nupic.torch", "AGPL", "sparse_layers = own"):
        assert part in message


def test_dense_models_do_not_ask_for_it(experiment: Make, no_nupic: None) -> None:
    make_model(experiment(sparse_layers="nupic", sparsify=False), (1, 28, 28), [10])


def test_an_installed_library_is_used(experiment: Make, nupic: ModuleType) -> None:
    exp = experiment(
        sparse_layers="nupic",
        cnn=True,
        hidden_units=10,
        weight_sparsity_fc=0.5,
        weight_sparsity_conv=0.5,
    )
    used = {type(m) for m in make_model(exp, (1, 28, 28), [10]).modules()}
    for name in ("KWinners", "KWinners2d", "SparseWeights", "SparseWeights2d"):
        assert getattr(nupic, name) in used
        assert getattr(sparse_syn, name) not in used


def test_names_of_nupic_torch() -> None:
    """All that nupic.torch.modules and nupic.torch.functions export."""
    modules = """Flatten KWinners KWinners2d PrunableSparseWeights PrunableSparseWeights2d
        SparseWeights SparseWeights2d normalize_sparse_weights rezero_weights
        update_boost_strength"""
    assert set(modules.split()) < set(sparse_syn.__all__)
    assert all(hasattr(sparse_syn, name) for name in sparse_syn.__all__)
    assert all(hasattr(functional, name) for name in ("kwinners", "kwinners2d"))
    assert list(signature(functional.boost_activations).parameters) == [
        "x",
        "duty_cycles",
        "boost_strength",
    ]


def test_a_state_of_nupic_torch_loads_into_a_whole_model() -> None:
    """Of its first years: no boost strength, indices of zero weights; later a mask in float16."""
    layer = sparse_syn.SparseWeights(nn.Linear(8, 6), sparsity=0.5)
    model = nn.Sequential(layer, sparse_syn.KWinners(6, 0.5))
    mask, duty = torch.rand(6, 8) < 0.5, torch.rand(6)
    weights = {"0.module.weight": torch.randn(6, 8), "0.module.bias": torch.randn(6)}
    old = {**weights, "0.zero_weights": mask.nonzero().t(), "1.duty_cycle": duty}
    new = {
        **weights,
        "0.zero_mask": mask.half(),
        "1.duty_cycle": duty,
        "1.boost_strength": torch.tensor([0.25]),
    }
    for state, strength in ((old, 1.0), (new, 0.25)):
        model[1].boost_strength.fill_(1.0)
        model.load_state_dict(state)
        assert torch.equal(model[0].zero_mask, mask)
        assert torch.equal(model[1].duty_cycle, duty)
        assert model[1].boost_strength.tolist() == strength
