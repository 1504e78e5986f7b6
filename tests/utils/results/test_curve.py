"""What accuracies while tasks are trained come to: an example by hand, and the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.results import curve
from utils.results.metrics import ANYTIME, measure

NAN = float("nan")
# Three tasks of 30 steps, tested after every 10: by hand.
TASKS = [0, 0, 0, 1, 1, 1, 2, 2, 2]
ROWS = [
    [0.5, NAN, NAN],
    [0.8, NAN, NAN],
    [0.9, NAN, NAN],
    [0.4, 0.3, NAN],  # task 1 falls from 0.9 to 0.4 and comes back to 0.7
    [0.6, 0.6, NAN],
    [0.7, 0.8, NAN],
    [0.8, 0.5, 0.1],  # task 2 falls from 0.8 to 0.5, and stays at 0.6
    [0.6, 0.7, 0.6],
    [0.7, 0.6, 0.9],
]
STATS: dict[str, Any] = {
    "accs": np.array([ROWS[2], ROWS[5], ROWS[8]]),
    "curve_tasks": np.array(TASKS),
    "curve_steps": np.arange(10, 100, 10),
    "curve_accs": np.array(ROWS),
}


def read(**changes: Any) -> curve.Curve:
    stats = STATS | changes
    found = curve.read_curve(stats, np.asarray(stats["accs"]))
    assert found is not None
    return found


def test_the_example_by_hand() -> None:
    found = measure(STATS)
    so_far = [0.5, 0.8, 0.9, 0.35, 0.6, 0.75, 1.4 / 3, 1.9 / 3, 2.2 / 3]
    assert found["anytime_accuracy"] == pytest.approx(sum(so_far) / 9)
    # The lowest since it was learned: task 1 has 0.4, task 2 has 0.5.
    assert found["min_accuracy"] == pytest.approx((0.4 + 0.5) / 2)
    assert found["worst_case_accuracy"] == pytest.approx(0.9 / 3 + 2 / 3 * 0.45)
    # While task 2 is trained: min(0.9, 0.7) - 0.4; task 3: min(0.7, 0.7) - 0.6, min(0.8, 0.6) - 0.5
    assert found["stability_gap"] == pytest.approx((0.3 + 0.1 + 0.1) / 3)
    # Without the tests after tasks: 0.65, 0.45 and 0.35.
    assert found["learning_area"] == pytest.approx((0.65 + 0.45 + 0.35) / 3)
    assert found["plasticity"] == pytest.approx(0.4 - 0.65)


def test_steps_to_an_accuracy() -> None:
    np.testing.assert_equal(curve.steps_to(read(), 0.8), [20, 30, 30])
    np.testing.assert_equal(curve.steps_to(read(), 0.9), [30, NAN, 30])
    np.testing.assert_equal(curve.steps_to(read(), 0.0), [10, 10, 10])


def test_tasks_are_compared_at_the_steps_that_all_have() -> None:
    """The first one is trained for longer."""
    more = {"curve_tasks": np.array([0, 0, *TASKS]), "curve_steps": np.arange(10, 120, 10)}
    rows = np.array([[0.2, NAN, NAN], [0.4, NAN, NAN], *ROWS])
    assert curve.learning_areas(read(**more, curve_accs=rows)) == pytest.approx([0.3, 0.45, 0.35])


def test_a_single_task_and_all_together() -> None:
    one = {"accs": [[0.75]], "curve_tasks": [0, 0], "curve_steps": [5, 9]}
    found = measure({**one, "curve_accs": [[0.25], [0.75]]})
    known = {name: found[name] for name in ANYTIME if not np.isnan(found[name])}
    assert known == {
        "anytime_accuracy": 0.5,
        "worst_case_accuracy": 0.75,
        "windowed_forgetting": 0.0,
        "windowed_plasticity": 0.5,
        "learning_area": 0.25,
    }
    together = {"accs": [[0.5, 1.0]], "curve_tasks": [0], "curve_steps": [9]}
    found = measure({**together, "curve_accs": [[0.5, 1.0]]})
    assert found["anytime_accuracy"] == 0.75
    assert all(np.isnan(found[name]) for name in ANYTIME if name != "anytime_accuracy")


def test_results_without_a_curve_have_no_such_metric() -> None:
    found = measure({"accs": STATS["accs"]})
    assert all(np.isnan(found[name]) for name in ANYTIME)


@given(tasks=st.integers(1, 5), each=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_they_are_the_formulas_of_the_papers(tasks: int, each: int, seed: int) -> None:
    """Loops over A(E_i, f_n), with n from 1 and |T_i| the last of task i."""
    accs = np.random.default_rng(seed).random((tasks * each, tasks))
    ends = [each * (i + 1) for i in range(tasks)]

    def a(i: int, n: int) -> float:
        return float(accs[n - 1, i - 1])

    t = tasks * each
    stats = {
        "accs": accs[np.array(ends) - 1],
        "curve_tasks": np.arange(t) // each,
        "curve_steps": np.arange(1, t + 1),
        "curve_accs": accs,
    }
    found = read(**stats)
    lowest = [min(a(i, n) for n in range(ends[i - 1] + 1, t + 1)) for i in range(1, tasks)]
    mean = sum(lowest) / (tasks - 1) if tasks > 1 else 0.0
    worst = a(tasks, t) / tasks + (1 - 1 / tasks) * mean
    assert curve.worst_case_accuracy(found) == pytest.approx(worst)
    if tasks > 1:
        assert curve.min_accuracy(found) == pytest.approx(mean)
        assert curve.stability_gap(found) >= 0
        worst_known = np.nanmean([*lowest, a(tasks, t)])
        assert curve.worst_case_accuracy(found) == pytest.approx(float(worst_known))
    for name, sign in (("windowed_forgetting", 1), ("windowed_plasticity", -1)):
        most = []
        for i in range(1, tasks + 1):
            first = ends[i - 1] - each + 1
            both = [(n, m) for n in range(first, t + 1) for m in range(n + 1, min(n + 10, t + 1))]
            most.append(max([0.0, *(sign * (a(i, n) - a(i, m)) for n, m in both)]))
        assert getattr(curve, name)(found) == pytest.approx(float(np.mean(most)))
    now = [np.mean([a(i, n) for i in range(1, (n - 1) // each + 2)]) for n in range(1, t + 1)]
    assert curve.anytime_accuracy(found) == pytest.approx(float(np.mean(now)))


@pytest.mark.parametrize(
    "changes",
    [
        {"curve_tasks": np.array(TASKS[:-1])},
        {"curve_tasks": np.array(TASKS[::-1])},
        {"curve_tasks": np.array([0] * 9)},
        {"curve_tasks": np.full(9, NAN)},
        {"curve_steps": -np.arange(9)},
        {"curve_accs": np.array(ROWS)[:, :2]},
        {"curve_accs": np.array(ROWS) + 1},
        {"curve_accs": "rubbish"},
    ],
)
def test_what_is_no_curve_is_said(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="curve_"):
        measure(STATS | changes)


def test_windows_with_tests_that_are_not_known_are_not_known() -> None:
    """As after --continue of a run that was not tested within its first tasks."""
    rows = np.array(ROWS)
    rows[4, 0] = NAN
    assert np.isnan(curve.windowed_forgetting(read(curve_accs=rows)))
    assert np.isnan(curve.windowed_plasticity(read(curve_accs=rows)))
