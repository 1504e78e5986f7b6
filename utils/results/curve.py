"""Accuracies while tasks are trained (`eval_every`), and what they come to: metrics, with their
papers. What a definition needs and a run does not have makes them NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from utils.results.arrays import numbers

NAN = float("nan")
WINDOW = 10  # tests in a row in which accuracy falls or rises


@dataclass(frozen=True, eq=False)
class Curve:
    """tasks: int64 [n], which task (from 0) was trained, in rising order; steps: int64 [n], so many
    of the run had been taken; accs: float [n, T], accuracy on every task then, NaN where it was not
    tested. The last row of a task is the test after it. together: whether all tasks were trained at
    once, as one.
    """

    tasks: np.ndarray
    steps: np.ndarray
    accs: np.ndarray
    together: bool

    @cached_property
    def ends(self) -> np.ndarray:
        """Which rows are the last of a task, bool [n]."""
        return np.diff(self.tasks, append=self.tasks[-1] + 1) > 0

    @property
    def later(self) -> int:
        """How many tasks were trained after the first."""
        return int(self.tasks[-1])

    def of_task(self, task: int, *, inner: bool = False) -> np.ndarray:
        """The rows while it was trained, [m, T]; inner: without that after it."""
        rows: np.ndarray = self.accs[(self.tasks == task) & ~(self.ends & inner)]
        return rows


def read_curve(stats: Mapping[str, Any], accs: np.ndarray) -> Curve | None:
    """That of a run with these accuracies after tasks; None of one without. Raises ValueError for
    what does not fit together."""
    parts = [numbers(stats, f"curve_{name}", n) for name, n in (("tasks", 1), ("steps", 1))]
    tasks, steps, found = *parts, numbers(stats, "curve_accs", 2)
    if tasks is None or steps is None or found is None or not len(found):
        return None
    wanted = [(len(found),), (len(found),), (len(found), accs.shape[1])]
    fits = [tasks.shape, steps.shape, found.shape] == wanted
    fits = fits and not np.any(np.isnan(tasks) | np.isnan(steps))
    if not fits or {*tasks.tolist()} != {*range(len(accs))} or np.any(np.diff(tasks) < 0):
        raise ValueError(f"curve_accs is {list(found.shape)}, and curve_tasks does not fit to it")
    if np.any(np.diff(steps) < 0) or not np.all(np.isnan(found) | ((found >= 0) & (found <= 1))):
        raise ValueError("curve_steps or curve_accs holds what is no steps or accuracies")
    together = len(accs) == 1 < accs.shape[1]
    return Curve(tasks.astype(np.int64), steps.astype(np.int64), found, together)


def accuracy_so_far(curve: Curve) -> np.ndarray:
    """Mean accuracy on the tasks so far, that which is trained among them, at each test: [n]."""
    known = np.full(len(curve.tasks), curve.accs.shape[1]) if curve.together else curve.tasks + 1
    return np.array([np.mean(row[:n]) for row, n in zip(curve.accs, known, strict=True)])


def anytime_accuracy(curve: Curve) -> float:
    """Average anytime accuracy: the mean over all tests of the mean accuracy on the tasks so far,
    AAA = 1/n sum_t 1/k(t) sum_{j<=k(t)} A(j, t).

    Caccia et al., New Insights on Reducing Abrupt Representation Change in Online Continual
    Learning, 2022.
    """
    return float(np.mean(accuracy_so_far(curve)))


def minima(curve: Curve) -> np.ndarray:
    """The lowest accuracy on every task but the last at any test after it was learned, [T - 1]:
    min A(j, t) over t after the last step of j."""
    if curve.together:
        return np.zeros(0)
    rows = [curve.accs[curve.tasks > task, task] for task in range(curve.later)]
    return np.array([row.min() for row in rows])


def min_accuracy(curve: Curve) -> float:
    """min-ACC: the mean of `minima`. NaN for a single task.

    De Lange, van de Ven and Tuytelaars, Continual Evaluation for Lifelong Learning: Identifying the
    Stability Gap, 2023; there every step is tested.
    """
    found = minima(curve)
    return float(np.mean(found)) if len(found) else NAN


def worst_case_accuracy(curve: Curve) -> float:
    """WC-ACC = 1/T A(T, end) + (1 - 1/T) min-ACC: the last task as it has been learned, the earlier
    ones at their worst. Of a single task the accuracy on it. De Lange et al., 2023.
    """
    if curve.together:
        return NAN
    share, last = 1 / (curve.later + 1), float(curve.accs[-1, -1])
    return share * last + ((1 - share) * min_accuracy(curve) if curve.later else 0)


def stability_gap(curve: Curve) -> float:
    """How deep the accuracy on earlier tasks falls while a task is trained, and comes back: mean
    over tasks k > 1 and j < k of min(a[k-1, j], a[k, j]) - min A(j, t) over the tests of task k,
    with a[k, j] that after task k.

    De Lange et al., 2023, name the gap, and measure it by min-ACC, which forgetting that stays
    lowers too; this difference, of what comes back alone, is defined here. Never below 0.
    """
    after, falls = curve.accs[curve.ends], list[float]()
    for k in range(1, 0 if curve.together else curve.later + 1):
        both = np.minimum(after[k - 1, :k], after[k, :k])
        falls += (both - curve.of_task(k)[:, :k].min(0)).clip(min=0).tolist()
    return float(np.mean(falls)) if falls else NAN


def windowed_forgetting(curve: Curve) -> float:
    """WF: the largest fall of the accuracy on a task within 10 tests in a row, from the first while
    it is trained on, max A(j, t) - A(j, u) over t < u < t + 10, mean over tasks j. De Lange et al.,
    2023, where every step is tested."""
    return _windowed(curve, -curve.accs)


def windowed_plasticity(curve: Curve) -> float:
    """WP: the same of the largest rise."""
    return _windowed(curve, curve.accs)


def _windowed(curve: Curve, values: np.ndarray) -> float:
    """The largest rise of these values [n, T], mean over tasks; never below 0."""
    if curve.together:
        return NAN
    found = []
    for task in range(curve.later + 1):
        line = values[curve.tasks >= task, task]
        rises = [np.max(line[lag:] - line[:-lag]) for lag in range(1, min(WINDOW, len(line)))]
        found.append(np.max([0.0, *rises]))  # NaN where a test is not known
    return float(np.mean(found))


def learning_areas(curve: Curve) -> np.ndarray:
    """The area under each task's learning curve, [T]: the mean accuracy on it over its tests while
    it was trained, as many of each as all tasks have. NaN without such tests.

    Chaudhry et al., Efficient Lifelong Learning with A-GEM, 2019 (LCA), have the first mini-batches
    in place of every so many steps, and the accuracy before them as well.
    """
    tasks = curve.later + 1
    if curve.together:
        return np.full(tasks, NAN)
    own = [curve.of_task(task, inner=True)[:, task] for task in range(tasks)]
    count = min(map(len, own))
    return np.array([np.mean(line[:count]) if count else NAN for line in own])


def learning_area(curve: Curve) -> float:
    """The mean of `learning_areas`."""
    return float(np.mean(learning_areas(curve)))


def plasticity(curve: Curve) -> float:
    """How much faster later tasks are learned than the first, which a fresh network learns: the
    mean of their `learning_areas` minus its. Below 0 where the network has become slower.

    Tasks differ in how hard they are, but for those of Permuted MNIST, which to an MLP are alike.
    NaN for a single task. After Dohare et al., Loss of Plasticity in Deep Continual Learning, 2024,
    who compare with a fresh network; the area is of Chaudhry et al., 2019.
    """
    first, *others = learning_areas(curve)
    return float(np.mean(others) - first) if others else NAN


def steps_to(curve: Curve, accuracy: float) -> np.ndarray:
    """After how many of its own steps a test first found this accuracy on each task, [T]; NaN where
    none did, and for tasks that are trained together."""
    found = np.full(curve.accs.shape[1], NAN)
    starts = np.concatenate([[0], curve.steps[curve.ends]])
    for task in range(0 if curve.together else curve.later + 1):
        there = (curve.tasks == task) & (curve.accs[:, task] >= accuracy)
        if there.any():
            found[task] = curve.steps[there][0] - starts[task]
    return found
