"""The metrics: examples worked out by hand, and laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from utils.results import metrics
from utils.results.files import load_results
from utils.results.metrics import METRICS, measure

OLD = Path(__file__).parents[2] / "data" / "MLP_1LayerSparse_2019-11-18.pkl"
NAN = float("nan")
# Rows: trained up to this task; columns: tested on.
ACCS = np.array([[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.8, 0.5, 0.7]])

matrices = st.integers(1, 6).flatmap(lambda t: arrays(float, (t, t), elements=st.floats(0, 1)))
counts = arrays(
    np.int64, st.tuples(st.integers(2, 5), st.integers(1, 8)), elements=st.integers(1, 99)
)


def test_accuracies_by_hand() -> None:
    assert metrics.average_accuracy(ACCS) == pytest.approx((0.8 + 0.5 + 0.7) / 3)
    assert metrics.learning_accuracy(ACCS) == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert metrics.accuracy_seen(ACCS) == pytest.approx([0.9, 0.75, 2 / 3])


def test_forgetting_by_hand() -> None:
    # Task 1: best earlier 0.9, last 0.8; task 2: best earlier 0.8, last 0.5.
    assert metrics.forgetting(ACCS) == pytest.approx((0.1 + 0.3) / 2)
    curves = metrics.forgetting_curves(ACCS)
    np.testing.assert_allclose(curves, [[NAN] * 3, [0.2, NAN, NAN], [0.1, 0.3, NAN]])


def test_forgetting_takes_the_best_of_every_earlier_row() -> None:
    # Task 2 was best before it was trained; Chaudhry's maximum is over those rows too.
    assert metrics.forgetting(np.array([[0.5, 0.6, 0], [0.5, 0.4, 0], [0.5, 0.3, 1]])) == (
        pytest.approx((0 + 0.3) / 2)
    )


def test_transfer_by_hand() -> None:
    assert metrics.backward_transfer(ACCS) == pytest.approx((-0.1 - 0.3) / 2)
    untrained = np.array([0.5, 0.1, 0.15])
    assert metrics.forward_transfer(ACCS, untrained) == pytest.approx((0.1 + 0.15) / 2)


def test_intransigence_by_hand() -> None:
    together = np.array([0.95, 0.9, 0.6])
    assert metrics.intransigence(ACCS, together) == pytest.approx((0.05 + 0.1 - 0.1) / 3)


def test_a_single_task_is_neither_forgotten_nor_transferred_to() -> None:
    found = measure({"accs": [[0.75]], "untrained": [0.1]})
    assert (found["average_accuracy"], found["learning_accuracy"]) == (0.75, 0.75)
    assert all(np.isnan(found[name]) for name in ("forgetting", "bwt", "fwt"))


def test_trained_on_all_tasks_together_there_is_only_an_average() -> None:
    found = measure({"accs": np.array([[0.5, 0.75]]), "on_idxs": np.array([[3, 0, 1]])})
    known = {name: value for name, value in found.items() if not np.isnan(value)}
    assert known == {"average_accuracy": 0.625, "dead_units": pytest.approx(1 / 3)}


def test_tested_only_on_tasks_seen_there_is_no_forward_transfer() -> None:
    seen = np.where(np.tri(3) > 0, ACCS, NAN)
    found = measure({"accs": seen, "untrained": np.full(3, NAN)})
    whole = measure({"accs": ACCS})
    for name in ("average_accuracy", "learning_accuracy", "forgetting", "bwt"):
        assert found[name] == whole[name]
    assert np.isnan(found["fwt"])


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_run_cut_short_has_no_metric_of_its_end(done: int) -> None:
    accs = ACCS.copy()
    accs[done:] = NAN
    stats = {"accs": accs, "perc_on_avg": [5.0], "on_idxs": np.ones((done, 4), int)}
    stats |= {"entropy": np.ones((1, 1)), "max_entropy": np.ones(1)}
    assert all(np.isnan(value) for value in measure(stats).values())


def test_a_run_cut_short_while_testing_has_no_average() -> None:
    accs = ACCS.copy()
    accs[2, 1:] = NAN
    found = measure({"accs": accs})
    assert np.isnan([found[n] for n in ("average_accuracy", "forgetting", "bwt")]).all()


def test_activity_by_hand() -> None:
    on = np.array([[4, 4, 0, 0], [0, 2, 6, 0]])
    # Shares of the use: 1/2 1/2 0 0 and 0 1/4 3/4 0; in common: 1/4.
    np.testing.assert_allclose(metrics.winner_overlaps(on), [[1, 0.25], [0.25, 1]])
    assert metrics.winner_overlap(on) == 0.25
    assert metrics.dead_units(on) == 0.25
    assert metrics.active_percentage(np.array([4.0, 6.0])) == pytest.approx(0.05)


def test_entropy_over_its_maximum() -> None:
    curve = metrics.entropy_curve(np.array([[10.0, 20], [30, 60]]), np.array([40.0, 80]))
    assert curve == pytest.approx([0.25, 0.75])
    assert np.isnan(metrics.entropy_curve(np.zeros((2, 0)), np.zeros(0))).all()
    above = metrics.entropy_curve(np.array([[10.00001], [20.0], [5.0]]), np.array([10.0]))
    np.testing.assert_array_equal(above, [1, np.nan, 0.5])  # rounding; no maximum at all


def test_costs_by_hand() -> None:
    costs = [
        {"name": "a", "params": 300, "active_params": 30, "macs": 250, "active_macs": 9},
        {"name": "b", "params": 100, "active_params": 100, "macs": 90, "active_macs": 10},
    ]
    found = measure({"accs": ACCS, "costs": costs, "weight_density": {"a": 0.1, "b": 1.0}})
    assert found["weight_density"] == pytest.approx((0.1 * 300 + 100) / 400)
    names = ("params", "active_params", "macs", "active_macs")
    assert [found[name] for name in names] == [400, 130, 340, 19]


ER = {"parameters": 0, "pictures": 500, "memory": 8000, "macs": 7}
EWC = {"parameters": 40, "pictures": 0, "memory": 0, "macs": 40}
TIMED = {"accs": ACCS, "train_seconds": 6.0, "steps": 300}


def test_what_methods_cost_is_added_up() -> None:
    found = measure(TIMED | {"method_costs": {"er": ER, "ewc": EWC}})
    assert [found[name] for name in metrics.METHODS] == [40, 500, 8000, 47, 0.02]
    found = measure(TIMED)  # none costs anything
    assert [found[name] for name in metrics.METHODS] == [0, 0, 0, 0, 0.02]
    found = measure(TIMED | {"steps": 0})
    assert np.isnan(found["step_seconds"]) and found["kept_pictures"] == 0
    assert measure(TIMED | {"steps": "300"})["step_seconds"] == 0.02  # from anybody
    older = measure({"accs": ACCS})
    assert np.isnan([older[name] for name in metrics.METHODS]).all()


def test_without_records_there_are_no_numbers() -> None:
    stats = {"accs": ACCS, "perc_on_avg": np.zeros(4), "on_idxs": np.zeros((3, 0), int)}
    found = measure(stats)
    assert list(found) == list(METRICS)
    assert all(np.isnan(found[name]) for name in metrics.SPARSITY)


def test_a_run_cut_short_has_no_forward_transfer() -> None:
    cut = ACCS.copy()
    cut[-1] = np.nan
    untrained = np.full(len(ACCS), 0.1)
    assert not np.isnan(measure({"accs": ACCS, "untrained": untrained})["fwt"])
    assert np.isnan(measure({"accs": cut, "untrained": untrained})["fwt"])


def test_a_result_of_2019() -> None:
    found = measure(load_results(OLD)[1])
    assert found["average_accuracy"] == pytest.approx(0.866, abs=5e-4)
    assert found["active_percentage"] == pytest.approx(0.0005, abs=1e-5)
    # One count for all tasks, training and testing, says nothing on units of a task.
    assert np.isnan([found["winner_overlap"], found["dead_units"], found["fwt"]]).all()


@pytest.mark.parametrize(
    ("stats", "what"),
    [
        ({}, "no accuracy matrix"),
        ({"accs": "text"}, "accs"),
        ({"accs": [[0.5, 2.0], [0, 0]]}, "from 0 to 1"),
        ({"accs": np.zeros((2, 3))}, r"\[2, 3\]"),
        ({"accs": np.zeros((0, 0))}, "accs"),
        ({"accs": [[0.5], [0.5, 0.5]]}, "accs"),
        ({"accs": ACCS, "untrained": np.zeros(2)}, "untrained"),
        ({"accs": ACCS, "untrained": np.full(3, np.inf)}, "untrained"),
        ({"accs": ACCS, "on_idxs": -np.ones((3, 2))}, "no counts"),
        ({"accs": ACCS, "on_idxs": np.eye(4)}, "on_idxs"),
        ({"accs": ACCS, "entropy": np.ones((2, 3)), "max_entropy": np.ones(2)}, "entropy"),
        ({"accs": ACCS, "costs": [{"name": "a"}]}, "costs"),
        ({"accs": ACCS, "costs": 3}, "costs"),
        ({"accs": ACCS, "weight_density": 3, "costs": [1]}, "costs"),
        (TIMED | {"method_costs": 3}, "method_costs"),
        (TIMED | {"method_costs": {"er": {"pictures": 500}}}, "method_costs"),
        (TIMED | {"method_costs": {"er": ER | {"macs": float("nan")}}}, "method_costs"),
        (TIMED | {"method_costs": {"er": ER | {"memory": 10**400}}}, "method_costs"),
        (TIMED | {"train_seconds": -1.0}, "train_seconds"),
        (TIMED | {"train_seconds": "long"}, "train_seconds"),
        (TIMED | {"steps": [300]}, "train_seconds"),
        (TIMED | {"steps": np.arange(3)}, "train_seconds"),
    ],
)
def test_stats_of_another_form_are_refused(stats: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        measure(stats)


@given(st.integers(1, 6), st.floats(0, 1))
def test_without_forgetting_there_is_none(tasks: int, accuracy: float) -> None:
    accs = np.full((tasks, tasks), accuracy)
    found = measure({"accs": accs, "untrained": accs[0]})
    assert found["average_accuracy"] == pytest.approx(accuracy)
    for name in ("forgetting", "bwt", "fwt"):
        assert found[name] == 0 if tasks > 1 else np.isnan(found[name])
    assert metrics.intransigence(accs, accs[0]) == 0


@given(matrices)
def test_what_holds_of_every_matrix(accs: np.ndarray) -> None:
    found = measure({"accs": accs})
    assert 0 <= found["average_accuracy"] <= 1
    if len(accs) > 1:
        assert -1 <= found["forgetting"] <= 1
        # The best earlier accuracy is at least the one right after training.
        assert found["forgetting"] >= -found["bwt"] - 1e-12
    assert metrics.accuracy_seen(accs)[-1] == pytest.approx(found["average_accuracy"])


@given(matrices, st.floats(0, 1))
def test_a_lower_last_row_forgets_more(accs: np.ndarray, factor: float) -> None:
    lower = accs.copy()
    lower[-1] *= factor
    if len(accs) > 1:
        assert metrics.forgetting(lower) >= metrics.forgetting(accs) - 1e-12


@given(counts, st.randoms())
def test_the_overlap_does_not_know_the_order_of_units(on: np.ndarray, random: Any) -> None:
    order = list(range(on.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(
        metrics.winner_overlaps(on[:, order]), metrics.winner_overlaps(on), atol=1e-12
    )


@given(counts, st.integers(1, 9))
def test_the_overlap_is_a_symmetric_share(on: np.ndarray, times: int) -> None:
    overlaps = metrics.winner_overlaps(on)
    np.testing.assert_allclose(overlaps, overlaps.T)
    np.testing.assert_allclose(np.diagonal(overlaps), 1)
    assert np.all((overlaps >= 0) & (overlaps <= 1 + 1e-12))
    longer = np.concatenate([on[:1] * times, on[1:]])  # a task trained for longer
    np.testing.assert_allclose(metrics.winner_overlaps(longer), overlaps, atol=1e-12)


def test_the_accuracy_where_the_task_is_known() -> None:
    found = measure({"accs": ACCS, "accs_given_task": np.full((3, 3), 0.75)})
    assert found["average_accuracy_given_task"] == 0.75
    assert np.isnan(measure({"accs": ACCS})["average_accuracy_given_task"])
    with pytest.raises(ValueError, match="accs_given_task"):
        measure({"accs": ACCS, "accs_given_task": np.full((3, 2), 0.75)})
