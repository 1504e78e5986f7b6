"""Intervals and comparisons against formulas and tables written out here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from utils.report.statistics import bands, compare, estimate, holm, trend

T_4, T_2 = 2.776445, 4.302653  # Student's t, 97.5 %, 4 and 2 degrees of freedom, from a table


def test_an_interval_by_hand() -> None:
    found = estimate([0.80, 0.82, 0.84, 0.86, 0.88])
    assert (found.mean, found.n) == (pytest.approx(0.84), 5)
    assert found.sd == pytest.approx(0.0316228, abs=1e-6)
    assert found.half == pytest.approx(T_4 * 0.0316228 / 5**0.5, abs=1e-6)


def test_what_was_not_measured_does_not_count() -> None:
    found = estimate([0.5, float("nan"), 0.7])
    assert (found.mean, found.n) == (pytest.approx(0.6), 2)


@pytest.mark.parametrize(("values", "n"), [([], 0), ([0.5], 1), ([float("nan")], 0)])
def test_one_run_has_no_interval(values: list[float], n: int) -> None:
    found = estimate(values)
    assert found.n == n
    assert np.isnan([found.half, found.sd]).all()
    assert np.isnan(found.mean) == (n == 0)


def test_bands_point_by_point() -> None:
    mean, half = bands([np.array([1.0, 2.0]), np.array([3.0, np.nan])])
    np.testing.assert_array_equal(mean, [2, 2])
    assert half[0] == pytest.approx(12.7062 * 2**0.5 / 2**0.5, abs=1e-3)
    assert np.isnan(half[1])


def test_pairs_by_hand() -> None:
    first, second = {0: 0.9, 1: 0.8, 2: 1.0, 7: 0.1}, {1: 0.6, 2: 0.9, 0: 0.6}
    found = compare(first, second)  # differences 0.3, 0.2, 0.1; seed 7 has no partner
    assert (found.paired, found.test, found.difference.n) == (True, "paired t", 3)
    assert found.difference.mean == pytest.approx(0.2)
    assert found.difference.half == pytest.approx(T_2 * 0.1 / 3**0.5, abs=1e-6)
    # t = 0.2 / (0.1 / sqrt 3) = 3.4641; p for 2 degrees of freedom is 1 - t / sqrt(t^2 + 2).
    assert found.p == pytest.approx(1 - 3.4641016 / (3.4641016**2 + 2) ** 0.5, abs=1e-7)
    assert found.p_exact == pytest.approx(2 / 2**3)  # all signs alike: 2 of the 8 ways
    assert found.effect == pytest.approx(2 * 0.5641896)  # J(2) = 1 / sqrt(pi)


def test_other_seeds_are_compared_as_two_samples() -> None:
    found = compare({0: 1.0, 1: 2.0, 2: 3.0}, {5: 5.0, 6: 7.0, 7: 9.0})
    assert (found.paired, found.test, found.difference.n) == (False, "Welch's t", 3)
    # Variances 1 and 4: standard error sqrt(5/3), (5/3)^2 / (1/18 + 16/18) = 2.941 degrees.
    assert found.difference.mean == -5
    assert found.difference.half == pytest.approx(3.2197 * (5 / 3) ** 0.5, abs=5e-3)
    assert found.p_exact == pytest.approx(2 / 20)  # the most extreme of 20 divisions, both sides


def test_one_pair_says_nothing_on_chance() -> None:
    found = compare({3: 0.9}, {3: 0.7})
    assert (found.paired, found.difference.n) == (True, 1)
    assert found.difference.mean == pytest.approx(0.2)
    assert np.isnan([found.difference.half, found.p, found.p_exact, found.effect]).all()
    assert not found.certain


def test_a_group_without_numbers() -> None:
    found = compare({}, {0: 0.5})
    assert np.isnan(found.difference.mean)
    assert not found.certain


def test_the_same_difference_for_every_seed_has_no_spread() -> None:
    found = compare({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.3, 1: 0.4, 2: 0.5})
    assert found.test == "permutation"
    assert found.p == found.p_exact == pytest.approx(0.25) and not found.certain
    eight = dict(enumerate(np.full(8, 0.05)))  # the smallest p of all is enough: 2 / 2^8
    assert compare(eight, dict.fromkeys(eight, 0.0)).certain


def test_equal_groups() -> None:
    found = compare({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
    assert (found.difference.mean, found.p_exact) == (0, 1)
    assert not found.certain


def test_two_pairs_have_no_effect_size() -> None:
    assert np.isnan(compare({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.4}).effect)


def test_holm_by_hand() -> None:
    pairs = [compare({0: a, 1: b, 2: c}, dict.fromkeys(range(3), 0.0)) for a, b, c in (
        (0.1, 0.2, 0.3), (0.10, 0.11, 0.12), (0.1, 0.1, 0.1))]  # fmt: skip
    adjusted = holm(pairs)
    assert adjusted[1].p_adjusted == pytest.approx(3 * pairs[1].p)
    assert adjusted[0].p_adjusted == pytest.approx(2 * pairs[0].p)
    assert adjusted[2].p_adjusted == pytest.approx(0.25)  # of the permutation test: no spread


values = st.lists(st.floats(0, 1), min_size=2, max_size=7)


@given(values, st.floats(-1, 1))
def test_the_sign_turns_with_the_groups(numbers: list[float], shift: float) -> None:
    first = dict(enumerate(numbers))
    second = {seed: value * 0.5 + shift for seed, value in first.items()}
    one, other = compare(first, second), compare(second, first)
    assert one.difference.mean == pytest.approx(-other.difference.mean)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert one.effect == pytest.approx(-other.effect, nan_ok=True)


@given(values)
def test_the_interval_and_the_test_agree(numbers: list[float]) -> None:
    found = compare(dict(enumerate(numbers)), dict.fromkeys(range(len(numbers)), 0.4))
    inside = abs(found.difference.mean) < found.difference.half
    if found.test == "paired t" and abs(found.p - 0.05) > 1e-9:
        assert inside == (found.p > 0.05)


def test_holm_for_a_few_that_were_chosen_among_more() -> None:
    pairs = [compare({0: a, 1: b, 2: c}, dict.fromkeys(range(3), 0.0)) for a, b, c in (
        (0.1, 0.2, 0.3), (0.10, 0.11, 0.12))]  # fmt: skip
    adjusted = holm(pairs, tests=6)
    assert adjusted[1].p_adjusted == pytest.approx(6 * pairs[1].p)
    assert adjusted[0].p_adjusted == pytest.approx(5 * pairs[0].p)


@pytest.mark.parametrize(("seeds", "values"), [(2, 4), (3, 3), (5, 3)])
def test_a_trend_within_seeds_is_that_of_page(seeds: int, values: int) -> None:
    rng, x = np.random.default_rng(seeds), [10.0**i for i in range(values)]
    for _ in range(5):
        y = rng.random((seeds, values)) + np.arange(values) / 4
        found, p = trend([(x, row) for row in y])
        rho = np.mean([stats.spearmanr(x, row).statistic for row in y])
        assert found == pytest.approx(rho)
        predicted = np.arange(values, 0, -1) if rho < 0 else None
        page = stats.page_trend_test(y, method="exact", predicted_ranks=predicted)
        assert p == pytest.approx(min(1.0, 2 * page.pvalue))


def test_a_trend_over_runs_of_other_seeds() -> None:
    x, y = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0], [0.1, 0.3, 0.2, 0.4, 0.5, 0.7, 0.6]
    known = stats.permutation_test(
        (y,), lambda y: stats.spearmanr(x, y).statistic, permutation_type="pairings"
    )
    found, p = trend([(x, y)])
    assert found == pytest.approx(known.statistic)
    assert p == pytest.approx(known.pvalue)


def test_a_trend_of_many_rearrangements_is_drawn() -> None:
    x, rng = list(range(6)), np.random.default_rng(0)
    y = rng.random((4, 6)) + np.arange(6) / 6
    _, p = trend([(x, row) for row in y])
    assert p == pytest.approx(2 * stats.page_trend_test(y, method="exact").pvalue, rel=0.3)


def test_what_does_not_change_has_no_trend() -> None:
    assert trend([([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])] * 2) == (0, 1)


def test_noise_has_a_trend_no_more_often_than_it_may() -> None:
    rng, x = np.random.default_rng(1), [1.0, 2.0, 4.0, 8.0]
    found = [trend([(x, row) for row in rng.random((2, 4))])[1] for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) < 0.08
