"""Winners found with bf16 products are the winners of the exact product."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from utils.engines.winners import screen
from utils.engines.winners.choose import Winners, choose
from utils.engines.winners.screen import Screen

U = 2.0**-8  # half the distance from 1 to the next bf16 number


def exact(weight: Tensor, bias: Tensor, x: Tensor, boost: Tensor | None, k: int) -> Winners:
    return choose(linear(x, weight, bias), boost, k)


def screened(weight: Tensor, bias: Tensor, x: Tensor, boost: Tensor | None, k: int) -> Winners:
    return Screen([weight], bias, exact=True).winners(x, [1.0], boost, k)


def in_two_parts(weight: Tensor, bias: Tensor, x: Tensor, boost: Tensor | None, k: int) -> Winners:
    """The same weights as a sum of parts that nearly cancel, one of them at half its scale."""
    other = weight.flip(0).round()
    return Screen([weight - other, 2 * other], bias, exact=True).winners(x, [1.0, 0.5], boost, k)


def of_pixels(weight: Tensor, bias: Tensor, x: Tensor, boost: Tensor | None, k: int) -> Winners:
    """Inputs that are whole numbers from 0 to 256 need no rounding."""
    return Screen([weight], bias, exact=True, grain=1.0).winners(x, [1.0], boost, k)


def dense(winners: Winners, units: int) -> Tensor:
    return torch.zeros(len(winners.unit), units).scatter_(1, winners.unit, winners.value)


def compare(weight: Tensor, bias: Tensor, x: Tensor, boost: Tensor | None, k: int) -> None:
    expected = dense(exact(weight, bias, x, boost, k), len(weight))
    for way in (screened, in_two_parts, of_pixels):
        assert torch.equal(dense(way(weight, bias, x, boost, k), len(weight)), expected)


@pytest.fixture
def rows_computed_in_full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were computed in full, a number for each time it was done."""
    counts: list[int] = []

    def counting(values: Tensor, boost: Tensor | None, k: int) -> Winners:
        counts.append(len(values))
        return choose(values, boost, k)

    monkeypatch.setattr(screen, "choose", counting)
    return counts


def whole(low: int, high: int, *shape: int, seed: int) -> Tensor:
    """Random whole numbers. Sums of their products are exact in float32, whatever the order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator).float()


SEEDS = st.integers(0, 2**16)


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 70), st.integers(1, 4), st.booleans(), SEEDS)
def test_random_layers(batch: int, inputs: int, k: int, boosted: bool, seed: int) -> None:
    weight, bias = whole(-600, 600, 300, inputs, seed=seed), whole(-600, 600, 300, seed=seed)
    x = whole(0, 255, batch, inputs, seed=seed)
    boost = torch.exp(-whole(0, 1000, 300, seed=seed) / 500) if boosted else None
    compare(weight, bias, x, boost, k)


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 8), st.booleans(), SEEDS)
def test_nearly_tied_units(k: int, spread: int, boosted: bool, seed: int) -> None:
    """bf16, which rounds these weights to multiples of 8, can hardly tell any unit from another."""
    weight = 1500 + whole(-spread, spread, 256, 64, seed=seed)
    x = whole(0, 15, 8, 64, seed=seed)
    duty = whole(0, 3, 256, seed=seed) / 3000
    compare(weight, torch.zeros(256), x, torch.exp(-duty) if boosted else None, k)


def rounded_apart(inputs: int, rivals: int) -> tuple[Tensor, Tensor]:
    """Weights [300, inputs] and one x, of which rounding hides that unit 0 is the best.

    Its weights and all of x lie just below the middle of two bf16 numbers and are rounded down.
    Those of its rivals lie just above it and are rounded up, but one weight or more are missing.
    """
    below, above = (1 + U) * (1 - 1e-6), (1 + U) * (1 + 1e-6)
    weight = torch.zeros(300, inputs)
    weight[0] = below
    for rival in range(1, 1 + rivals):
        weight[rival, rival:] = above
    return weight, torch.full((1, inputs), below)


@pytest.mark.parametrize("rivals", [1, 2, 3, 4])
def test_rounding_at_its_worst(rivals: int) -> None:
    for inputs in range(540, 560):
        weight, x = rounded_apart(inputs, rivals)
        for way in (exact, screened):
            assert way(weight, torch.zeros(300), x, None, 1).unit.tolist() == [[0]]
        for way in (exact, of_pixels):
            best = way(weight, torch.zeros(300), torch.ones(1, inputs), None, 1)
            assert best.unit.tolist() == [[0]]


def test_clear_winners_need_no_full_product(rows_computed_in_full: list[int]) -> None:
    weight = torch.zeros(300, 8)
    weight[:8] = torch.eye(8)
    x = torch.eye(8)
    found = screened(weight, torch.zeros(300), x, None, 1)
    assert found.unit.flatten().tolist() == list(range(8))
    assert rows_computed_in_full == []


def test_only_unsure_rows_are_computed_in_full(rows_computed_in_full: list[int]) -> None:
    weight = torch.zeros(300, 8)
    weight[:8] = torch.eye(8)
    # For the last input 100 units are within rounding of each other.
    weight[100:200, 7] = 1 + torch.arange(100) * 1e-5
    found = screened(weight, torch.zeros(300), torch.eye(8), None, 1)
    assert found.unit.flatten().tolist() == [*range(7), 199]
    assert rows_computed_in_full == [1]


def test_ties_are_all_winners(rows_computed_in_full: list[int]) -> None:
    weight = torch.zeros(300, 8)
    weight[:8] = torch.eye(8)
    weight[100:110, 7] = 1.0
    compare(weight, torch.zeros(300), torch.eye(8), None, 1)
    found = screened(weight, torch.zeros(300), torch.eye(8), None, 1)
    assert found.unit.shape == (8, 11)


def test_ties_among_the_candidates() -> None:
    weight = torch.zeros(300, 8)
    weight[:8] = torch.eye(8)
    weight[9] = weight[3]
    compare(weight, torch.zeros(300), torch.eye(8), None, 1)


def test_bounds_follow_the_weights() -> None:
    weight, bias = torch.zeros(300, 9), torch.zeros(300)
    bounds = Screen([weight], bias, exact=True)
    for seed in range(3):
        weight.copy_(whole(-600, 600, 300, 9, seed=seed))
        bias.copy_(whole(-600, 600, 300, seed=seed))
        bounds.refresh()
        for rows in ([5], [7, 200, 7]):  # and only some rows of them
            weight[rows] = whole(-900, 900, 1, 9, seed=seed + rows[0])
            bounds.refresh(torch.tensor(rows))
            x = whole(0, 255, 5, 9, seed=seed)
            one, two = bounds.winners(x, [1.0], None, 2), exact(weight, bias, x, None, 2)
            assert torch.equal(dense(one, 300), dense(two, 300))


def test_not_a_number_shows() -> None:
    weight = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    weight[17, 3] = float("nan")
    assert screened(weight, torch.zeros(300), torch.ones(2, 8), None, 2).value.isnan().any()


def test_the_real_pictures(experiment: Callable, stream_of: Callable) -> None:
    stream = stream_of(experiment())
    weight, bias = whole(-300, 300, 2048, 784, seed=0), whole(-9999, 9999, 2048, seed=1)
    boost = torch.exp(-whole(0, 100, 2048, seed=2) / 100)
    for task in stream.tasks:
        pixels = stream.inputs(stream.train, task.train).flatten(1).mul(255).round()
        compare(weight, bias, pixels, None, 4)
        compare(weight, bias, pixels, boost, 4)
