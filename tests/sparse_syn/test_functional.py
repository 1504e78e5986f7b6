"""k-winners functions: worked values, recorded cases, laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_syn import functional as F

NO_DUTY = torch.zeros(3)


def test_the_largest_stay() -> None:
    y = F.kwinners(torch.tensor([[3.0, 1.0, 2.0]]), NO_DUTY, k=2, boost_strength=1.0)
    assert y.tolist() == [[3.0, 0.0, 2.0]]


def test_boosting_picks_the_winners_and_leaves_their_values() -> None:
    duty = torch.tensor([1.0, 0.0, 0.0])
    y = F.kwinners(torch.tensor([[3.0, 1.0, 2.0]]), duty, k=2, boost_strength=2.0)
    assert y.tolist() == [[0.0, 1.0, 2.0]]  # 3 counts as 3 / e^2 = 0.41


def test_ties_all_stay_unless_broken() -> None:
    x = torch.tensor([[2.0, 2.0, 1.0]])
    assert F.kwinners(x, NO_DUTY, 1, 0.0).count_nonzero() == 2
    assert F.kwinners(x, NO_DUTY, 1, 0.0, break_ties=True).count_nonzero() == 1


def test_local_winners_are_chosen_at_each_position() -> None:
    x = torch.tensor([[[[1.0, 9.0]], [[2.0, 8.0]]]])  # [1, 2 channels, 1, 2]
    duty = torch.zeros(1, 2, 1, 1)
    local = F.kwinners2d(x, duty, 1, 0.0)
    assert local.flatten().tolist() == [0.0, 9.0, 2.0, 0.0]
    everywhere = F.kwinners2d(x, duty, 2, 0.0, local=False)
    assert everywhere.flatten().tolist() == [0.0, 9.0, 0.0, 8.0]


@pytest.mark.parametrize("break_ties", [False, True])
def test_relu_lets_no_negative_winner_pass(break_ties: bool) -> None:
    x = torch.tensor([[-3.0, -1.0, 2.0]])
    y = F.kwinners(x, NO_DUTY, 2, 0.0, break_ties=break_ties, relu=True)
    assert y.tolist() == [[0.0, 0.0, 2.0]]


@pytest.mark.parametrize("break_ties", [False, True])
@pytest.mark.parametrize("k", [0, 3])
def test_none_or_all_can_win(k: int, break_ties: bool) -> None:
    x = torch.tensor([[-3.0, -1.0, 2.0]])
    y = F.kwinners(x, NO_DUTY, k, 1.0, break_ties=break_ties)
    assert torch.equal(y, x if k else torch.zeros_like(x))


@pytest.mark.parametrize("k", [-1, 4])
def test_more_winners_than_units_is_an_error(k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k}: choose 0 to 3"):
        F.kwinners(torch.ones(1, 3), NO_DUTY, k, 0.0)


def test_a_nan_is_not_hidden() -> None:
    x = torch.tensor([[math.nan, 1.0, 2.0]])
    for k in (1, 2, 3):
        assert F.kwinners(x, NO_DUTY, k, 0.0).isnan().any()
        assert F.kwinners(x, NO_DUTY, k, 0.0, break_ties=True, relu=True).isnan().any()


def test_inplace_overwrites_the_input() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0]])
    y = F.kwinners(x, NO_DUTY, 1, 0.0, inplace=True)
    assert y.data_ptr() == x.data_ptr()
    assert x.tolist() == [[3.0, 0.0, 0.0]]


@pytest.mark.kinds("kwinners", "kwinners2d")
def test_recorded(recorded: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    case, arrays = recorded
    options = {key: case[key] for key in ("local", "break_ties", "relu") if key in case}
    x = arrays["x"].requires_grad_()
    y = getattr(F, case["kind"])(x, arrays["duty"], case["k"], case["boost_strength"], **options)
    assert torch.equal(y, arrays["y"])
    if "grad_out" in arrays:
        y.backward(arrays["grad_out"])
        assert torch.equal(x.grad, arrays["grad_x"])


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """x [batch, n] without ties, duty cycles [n], and a k."""
    n = draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    order = [torch.randperm(n, generator=generator) for _ in range(draw(st.integers(1, 5)))]
    x = torch.stack(order).double() - n // 2 + 0.5
    return x, torch.rand(n, generator=generator, dtype=torch.double), draw(st.integers(0, n))


@settings(max_examples=50, deadline=None)
@given(batches(), st.booleans(), st.sampled_from([0.0, 0.7]))
def test_k_units_win_and_pass_as_they_are(
    batch: tuple[Tensor, Tensor, int], break_ties: bool, boost_strength: float
) -> None:
    x, duty, k = batch
    y = F.kwinners(x, duty, k, boost_strength, break_ties)
    on = y != 0
    assert on.sum(1).eq(k).all()
    assert torch.equal(y[on], x[on])
    boosted = F.boost_activations(x, duty, boost_strength)
    lowest_winner = boosted.masked_fill(~on, math.inf).amin(1)
    highest_loser = boosted.masked_fill(on, -math.inf).amax(1)
    assert (lowest_winner > highest_loser).all()


@settings(max_examples=50, deadline=None)
@given(batches(), st.booleans())
def test_only_winners_get_a_gradient(batch: tuple[Tensor, Tensor, int], break_ties: bool) -> None:
    x, duty, k = batch
    x.requires_grad_()
    y = F.kwinners(x, duty, k, 1.0, break_ties)
    y.backward(torch.full_like(y, 3.0))
    assert torch.equal(x.grad, 3.0 * (y != 0))


@settings(max_examples=50, deadline=None)
@given(batches(), st.booleans(), st.integers(0, 1000))
def test_units_have_no_order(
    batch: tuple[Tensor, Tensor, int], break_ties: bool, seed: int
) -> None:
    x, duty, k = batch
    order = torch.randperm(len(duty), generator=torch.Generator().manual_seed(seed))
    y = F.kwinners(x, duty, k, 1.0, break_ties)
    assert torch.equal(F.kwinners(x[:, order], duty[order], k, 1.0, break_ties), y[:, order])


@settings(max_examples=50, deadline=None)
@given(batches(), st.booleans(), st.booleans())
def test_2d_agrees_with_1d(batch: tuple[Tensor, Tensor, int], break_ties: bool, relu: bool) -> None:
    x, duty, k = batch
    flat = F.kwinners(x, duty, k, 1.0, break_ties, relu)
    channels, shape = x[:, :, None, None], duty.view(1, -1, 1, 1)
    for local in (True, False):
        y = F.kwinners2d(channels, shape, k, 1.0, local, break_ties, relu)
        assert torch.equal(y.flatten(1), flat)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(1, 50), min_size=1, max_size=12))
def test_a_duty_cycle_is_a_moving_average(period: int, sizes: list[int]) -> None:
    duty, seen, won = torch.zeros(2), torch.tensor(0), 0.0
    for i, size in enumerate(sizes):
        seen = seen + size
        wins = torch.tensor([float(size), float(i % 2 * size)])
        won += float(wins[1])
        duty = F.moving_duty_cycle(duty, wins, size, seen, period)
        assert duty[0] == pytest.approx(1.0)
        assert 0 <= duty[1] <= 1
        if seen <= period:
            assert duty[1] == pytest.approx(won / int(seen), abs=1e-5)


def test_a_batch_longer_than_the_period_is_averaged_whole() -> None:
    duty = F.moving_duty_cycle(
        torch.tensor([0.9]), torch.tensor([64.0]), 128, torch.tensor(999), 40
    )
    assert duty.tolist() == [0.5]


@pytest.mark.parametrize("batch", [1, 128])
@pytest.mark.parametrize("often", [1.0, 0.5, 0.1, 0.001])
def test_a_period_longer_than_float32_counts_loses_no_wins(often: float, batch: int) -> None:
    """When so many samples were seen that those of a batch are less than rounding of their sum."""
    duty, seen = torch.tensor([often]), 2**27 * batch
    for i in range(20_000):
        win = torch.tensor([float(i % round(1 / often) == 0)]) * batch
        duty = F.moving_duty_cycle(duty, win, batch, torch.tensor(seen + i * batch), 10**12)
    assert duty.item() == pytest.approx(often, rel=1e-3)


def test_entropy_of_a_coin_is_a_bit() -> None:
    each, total = F.binary_entropy(torch.tensor([0.5, 0.0, 1.0, 0.25]))
    assert each.tolist() == pytest.approx([1.0, 0.0, 0.0, 0.811278], abs=1e-6)
    assert total.item() == pytest.approx(1.811278, abs=1e-6)


@pytest.mark.parametrize(("n", "k", "bits"), [(4, 2, 4.0), (4, 1, 3.245112), (5, 0, 0), (5, 5, 0)])
def test_max_entropy(n: int, k: int, bits: float) -> None:
    assert F.max_entropy(n, k) == pytest.approx(bits, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_entropy_is_largest_when_units_win_equally_often(p: list[float]) -> None:
    duty = torch.tensor(p, dtype=torch.double)
    mean = duty.mean().expand_as(duty)
    assert F.binary_entropy(duty)[1] <= F.binary_entropy(mean)[1] + 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("relu", [False, True])
def test_coarse_values_tie_and_exactly_k_win(dtype: torch.dtype, relu: bool) -> None:
    x = (torch.arange(400).div(3, rounding_mode="floor") / 128 + 1).view(2, 200).to(dtype)
    duty = torch.zeros(200)
    for k in (1, 7, 150, 200):
        y = F.kwinners(x, duty, k, 1.0, relu=relu)
        assert y.count_nonzero(1).eq(k).all()
        assert torch.equal(y.topk(k, 1).values, x.topk(k, 1).values)
        pictures = x.view(2, 200, 1, 1)
        for local in (True, False):
            y = F.kwinners2d(pictures, duty.view(1, 200, 1, 1), k, 1.0, local, relu=relu)
            assert y.flatten(1).count_nonzero(1).eq(k).all()
    assert F.kwinners(x.float(), duty, 7, 1.0).count_nonzero() > 14


def test_samples_come_in_any_number_of_dimensions() -> None:
    x, duty = torch.randn(2, 3, 5), torch.rand(5)
    whole = F.kwinners(x, duty, 2, 1.0)
    assert torch.equal(F.kwinners(x[1, 2], duty, 2, 1.0), whole[1, 2])
    pictures, duty = torch.randn(2, 5, 3, 4), torch.rand(1, 5, 1, 1)
    for local in (True, False):
        whole = F.kwinners2d(pictures, duty, 2, 1.0, local)
        assert torch.equal(F.kwinners2d(pictures[1], duty, 2, 1.0, local), whole[1])


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4), (3, 1), (5, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"k-winners of 5 units: x is .*choose \[..., 5\]"):
        F.kwinners(torch.randn(shape), torch.zeros(5), 1, 0.0, inplace=True)


@pytest.mark.parametrize(
    "shape", [(5,), (2, 5), (2, 5, 3), (2, 1, 3, 3), (5, 2, 3, 3), (2, 5, 3, 0)]
)
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"5 channels: x is .*or \[5, height, width\]"):
        F.kwinners2d(torch.randn(shape), torch.zeros(1, 5, 1, 1), 1, 0.0)


def test_boosted_values_have_no_gradient() -> None:
    x = torch.tensor([[3.0, -1.0]], requires_grad=True)
    boosted = F.boost_activations(x, torch.tensor([1.0, 0.5]), 2.0)
    assert boosted.tolist() == [[pytest.approx(3 * math.exp(-2)), pytest.approx(-math.exp(-1))]]
    assert not boosted.requires_grad
    assert torch.equal(F.boost_activations(x, torch.tensor([1.0, 0.5]), 0.0), x)
