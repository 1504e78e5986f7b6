"""How sure a mean over a few seeds is, and a difference between two of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

LEVEL = 0.95  # of every confidence interval
NAN = float("nan")
_RESAMPLES = 9999  # fewer rearrangements than this are all tried


@dataclass(frozen=True)
class Estimate:
    """A mean over runs: n of them, their standard deviation `sd`, and `half`, half the width of the
    95 % confidence interval (Student's t). One run has neither: NaN.
    """

    mean: float
    half: float
    sd: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A metric of one group minus that of another.

    difference: its mean is above 0 where the first group has more; paired: whether runs of the same
    seed were subtracted, so n counts pairs, else n counts the runs of the smaller group; test: what
    p comes from; p: of Student's t test for pairs, or Welch's, and where nothing is spread p_exact;
    p_exact: of the permutation test, which assumes no distribution but cannot be below 2 / 2^n for
    n pairs; p_adjusted: p after Holm for all comparisons made with it; effect: Hedges' g, the
    difference in standard deviations.
    What so few runs cannot say is NaN.
    """

    difference: Estimate
    paired: bool
    test: str
    p: float
    p_exact: float
    effect: float
    p_adjusted: float = NAN

    @property
    def certain(self) -> bool:
        """Whether the sign of the difference is more than chance, at 5 %, after all comparisons."""
        return bool(max(self.p, self.p_adjusted) < 1 - LEVEL)


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and interval of those of the values that are not NaN."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    n = len(known)
    if n < 2:
        return Estimate(float(known[0]) if n else NAN, NAN, NAN, n)
    sd = float(np.std(known, ddof=1))
    return Estimate(float(np.mean(known)), _half(sd / np.sqrt(n), n - 1), sd, n)


def bands(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half width of the interval at every point, of the curves that have one there."""
    points = [estimate(column) for column in itertools.zip_longest(*curves, fillvalue=NAN)]
    return np.array([p.mean for p in points]), np.array([p.half for p in points])


def compare(
    first: Mapping[object, float], second: Mapping[object, float], *, same_tasks: bool = True
) -> Comparison:
    """The first group's metric minus the second's, each by seed (any key will do), without
    NaN.

    Runs of the same seed, which share tasks and order of the data, are paired where at least two
    seeds, and half of the smaller group, are in both; runs of other seeds are then left out.
    Without the `same_tasks` a seed means nothing, and nothing is paired.
    """
    one_pair = len(first) == 1 and first.keys() == second.keys()
    shared = common([first, second], least=1 if one_pair else 2) if same_tasks else []
    if shared:
        return _paired(np.array([first[s] - second[s] for s in shared]))
    return _unpaired(np.array([*first.values()]), np.array([*second.values()]))


def common(groups: Sequence[Mapping[object, float]], least: int = 2) -> list[object]:
    """The seeds that all groups have; [] where these are not so many, or not half of the smallest
    group."""
    shared = [seed for seed in groups[0] if all(seed in group for group in groups)]
    return shared if len(shared) >= max(least, min(map(len, groups)) / 2) else []


def holm(comparisons: Sequence[Comparison], tests: int = 0) -> list[Comparison]:
    """The same with p_adjusted: p as it is after so many tests (Holm, 1979).

    tests: how many there are in all where these were chosen among more by their values: the others
    count as if their p were larger, which is on the safe side.
    """
    order = sorted(
        (i for i, c in enumerate(comparisons) if not np.isnan(c.p)), key=lambda i: comparisons[i].p
    )
    adjusted, largest, tests = list(comparisons), 0.0, max(tests, len(order))
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (tests - rank) * comparisons[i].p))
        adjusted[i] = replace(comparisons[i], p_adjusted=largest)
    return adjusted


def trend(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    """Whether y goes up or down with x: of each block (x, y), such as the runs of one seed, its
    Spearman correlation, and of those the mean; and its p, of all rearrangements of y within the
    blocks, which for whole blocks is Page's test, both sides.
    """
    ranks = [(_ranks(x), _ranks(y)) for x, y in blocks]
    rng, total = np.random.default_rng(0), sum(float(x @ y) for x, y in ranks)
    few = math.prod(math.factorial(min(len(x), 9)) for x, _ in ranks) <= _RESAMPLES
    found = np.zeros(1)
    for x, y in ranks:
        if few:
            found = np.add.outer(found, np.array([*itertools.permutations(y)]) @ x).ravel()
        else:
            found = found + rng.permuted(np.tile(y, (_RESAMPLES, 1)), axis=1) @ x
    as_far = np.count_nonzero(np.abs(found) >= abs(total) - 1e-9)
    p = as_far / len(found) if few else (as_far + 1) / (len(found) + 1)
    return total / len(ranks), p


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks around 0, the sum of their squares 1; all 0 where the values are the same."""
    ranks = stats.rankdata(values) - (len(values) + 1) / 2
    return ranks / (np.linalg.norm(ranks) or 1.0)


def _paired(differences: np.ndarray) -> Comparison:
    difference = estimate(differences)
    n, sd = difference.n, difference.sd
    if n < 2:
        return Comparison(difference, True, "one pair: no test", NAN, NAN, NAN)
    exact = _permutation((differences,), "samples")
    if _nothing(sd, differences):  # all the same: no spread that a t test could go by
        return Comparison(difference, True, "permutation", exact, exact, NAN)
    p = 2 * stats.t.sf(abs(difference.mean) / (sd / np.sqrt(n)), n - 1)
    effect = _correction(n - 1) * difference.mean / sd
    return Comparison(difference, True, "paired t", float(p), exact, effect)


def _unpaired(first: np.ndarray, second: np.ndarray) -> Comparison:
    a, b = estimate(first), estimate(second)
    n, mean = min(a.n, b.n), a.mean - b.mean
    if n < 2:
        return Comparison(Estimate(mean, NAN, NAN, n), False, "one run: no test", NAN, NAN, NAN)
    sd = float(np.sqrt(((a.n - 1) * a.sd**2 + (b.n - 1) * b.sd**2) / (a.n + b.n - 2)))
    exact = _permutation((first, second), "independent")
    if _nothing(sd, np.concatenate([first, second])):
        return Comparison(Estimate(mean, NAN, sd, n), False, "permutation", exact, exact, NAN)
    parts = a.sd**2 / a.n, b.sd**2 / b.n
    error = np.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (a.n - 1) + parts[1] ** 2 / (b.n - 1))
    difference = Estimate(mean, _half(error, freedom), sd, n)
    p = 2 * stats.t.sf(abs(mean) / error, freedom)
    effect = _correction(a.n + b.n - 2) * mean / sd
    return Comparison(difference, False, "Welch's t", float(p), exact, effect)


def _half(error: float, freedom: float) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom) * error)


def _correction(freedom: float) -> float:
    """What takes the bias of few runs out of an effect size (Hedges, 1981); NaN below 2 degrees of
    freedom, for which nothing does.
    """
    if freedom < 2:
        return NAN
    logs = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    return float(np.exp(logs) / np.sqrt(freedom / 2))


def _nothing(sd: float, values: np.ndarray) -> bool:
    """Whether a spread is none but for rounding."""
    return sd <= 1e-12 * float(np.max(np.abs(values), initial=0))


def _permutation(samples: tuple[np.ndarray, ...], kind: str) -> float:
    """Two-sided p of all rearrangements: of the signs of paired differences, or of the groups."""

    def statistic(*arrays: np.ndarray, axis: int) -> np.ndarray:
        means = [np.mean(array, axis=axis) for array in arrays]
        return means[0] - sum(means[1:])

    found = stats.permutation_test(
        samples, statistic, permutation_type=kind, n_resamples=_RESAMPLES, vectorized=True, rng=0
    )
    return min(1.0, float(found.pvalue))
