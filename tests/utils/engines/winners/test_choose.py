"""Winners by index are the winners of `sparse_syn.functional.kwinners`, ties included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_syn.functional import kwinners
from utils.engines.winners import choose as choices
from utils.engines.winners.choose import Winners, choose

WIDTHS = st.integers(2, 40) | st.sampled_from([256, 513])


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the compiled loop, however many win, and never there."""
    monkeypatch.setattr(choices, "FEW", 1 if request.param == "compiled" else 10**6)


def values_of(batch: int, n: int, seed: int, ties: bool) -> Tensor:
    """Random numbers; with ties only -2, -1, 0, 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    if ties:
        return torch.randint(-2, 3, (batch, n), generator=generator).float()
    return torch.randn(batch, n, generator=generator)


def dense(winners: Winners, n: int) -> Tensor:
    """The activations that indices and values stand for; a unit that comes twice is no winner."""
    batch = len(winners.unit)
    times = torch.zeros(batch, n).scatter_add_(1, winners.unit, torch.ones_like(winners.value))
    assert times.max() <= 1
    return torch.zeros(batch, n).scatter_(1, winners.unit, winners.value)


@given(st.integers(1, 5), WIDTHS, st.integers(0, 2**16), st.booleans(), st.booleans(), st.data())
def test_choose_is_kwinners(
    batch: int, n: int, seed: int, ties: bool, boosted: bool, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    values = values_of(batch, n, seed, ties)
    # Few different duty cycles, so that boosted values tie as well.
    duty = values_of(1, n, seed + 1, ties=True)[0].abs() / 2
    strength = 1.5 if boosted else 0.0
    found = choose(values, torch.exp(-strength * duty) if boosted else None, k)
    assert torch.equal(dense(found, n), kwinners(values, duty, k, strength))
    assert found.unit.shape == found.value.shape
    assert found.unit.shape[1] >= k


def test_a_worked_case() -> None:
    found = choose(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), None, 2)
    assert (found.unit.tolist(), found.value.tolist()) == ([[0, 2]], [[3.0, 2.0]])


def test_boosting_picks_winners_and_leaves_their_values() -> None:
    found = choose(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([0.1, 1.0, 1.0]), 1)
    assert (found.unit.tolist(), found.value.tolist()) == ([[1]], [[2.0]])


def test_rows_with_fewer_winners_are_padded_with_zeros() -> None:
    found = choose(torch.tensor([[1.0, 5.0, 1.0, 1.0], [9.0, 1.0, 2.0, 3.0]]), None, 2)
    assert found.unit.shape == (2, 4)
    assert dense(found, 4).tolist() == [[1.0, 5.0, 1.0, 1.0], [9.0, 0.0, 0.0, 3.0]]


def test_not_a_number_shows() -> None:
    """A loss that is not finite must not be hidden by a choice of other units."""
    values = torch.tensor([[1.0, float("nan"), 3.0, 2.0, 0.0, -1.0]])
    assert choose(values, None, 2).value.isnan().any()
    tied = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, -1.0]])
    assert choose(torch.cat([values, tied]), None, 2).value.isnan().any()


@given(st.integers(1, 5), WIDTHS, st.integers(0, 2**16), st.data())
def test_exactly_k_win_where_ties_are_broken(
    batch: int, n: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    values = values_of(batch, n, seed, ties=True) + 5
    on = dense(choose(values, None, k, break_ties=True), n)
    assert (on != 0).sum(1).eq(k).all()
    assert torch.equal(on.topk(k, 1).values, values.topk(k, 1).values)
