"""How sure, and which class for which: examples by hand, and the paper's sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.results.answers import calibration_error, last_confusion, recency_bias
from utils.results.metrics import measure

pictures = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)
ACCS = np.full((2, 2), 0.5)
CONFUSION = np.array(
    [
        [5, 1, 3, 1],  # 5 wrong, of which 4 are taken for the latest classes
        [0, 6, 0, 0],
        [0, 2, 7, 1],  # 3 wrong, of which 1 is
        [0, 0, 0, 9],
    ]
)


def test_calibration_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.5, 0.52])
    correct = np.array([True, True, True, False, True, False])
    # Bin (14/15, 1]: accuracy 0.75 against 0.95; bin (7/15, 8/15]: 0.5 against 0.51.
    expected = 4 / 6 * 0.2 + 2 / 6 * 0.01
    assert calibration_error(confidence, correct) == pytest.approx(expected)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration_error(np.array([1.0]), np.array([False])) == 1
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


@given(pictures, st.integers(1, 20))
def test_calibration_is_the_sum_over_bins(found: list[tuple[float, bool]], bins: int) -> None:
    total = 0.0
    for m in range(1, bins + 1):
        # As in the paper, with 0 in the first bin.
        inside = [p for p in found if min(max(int(np.ceil(p[0] * bins)), 1), bins) == m]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            sure = sum(conf for conf, _ in inside) / len(inside)
            total += len(inside) / len(found) * abs(accuracy - sure)
    confidence, correct = (np.array(column) for column in zip(*found, strict=True))
    assert calibration_error(confidence, correct, bins) == pytest.approx(total)


def test_recency_bias_by_hand() -> None:
    tasks = np.array([0, 0, 1, 1])
    assert recency_bias(CONFUSION, tasks, 1) == pytest.approx((4 + 1) / (5 + 3))
    assert np.isnan(recency_bias(CONFUSION, tasks, 0))  # nothing came later
    assert np.isnan(recency_bias(np.diag([3, 3, 3, 3]), tasks, 1))  # nothing is wrong
    three = np.array([0, 1, 1, 2])  # pictures of the task to come are left out
    assert recency_bias(CONFUSION, three, 1) == pytest.approx((4 + 2) / (5 + 3))


def test_what_a_result_comes_to() -> None:
    stats: dict[str, Any] = {
        "accs": ACCS,
        "confusion": np.stack([0 * CONFUSION, CONFUSION]),
        "output_tasks": np.array([0, 0, 1, 1], np.int16),
        "picture_confidence": np.array([[0.1, 0.2], [1.0, np.nan]], np.float16),
        "picture_correct": np.array([[True, True], [False, True]]),
    }
    found = measure(stats)
    assert found["recency_bias"] == pytest.approx(5 / 8)
    assert found["calibration_error"] == 1
    assert (last_confusion(stats) == CONFUSION).all()
    together = stats | {"accs": ACCS[-1:]}  # none of them is the latest
    assert np.isnan(measure(together)["recency_bias"])
    found = measure({"accs": ACCS})
    assert np.isnan([found["recency_bias"], found["calibration_error"]]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"confusion": np.zeros((1, 2, 3)), "output_tasks": [0, 1]},
        {"confusion": -np.ones((1, 2, 2)), "output_tasks": [0, 1]},
        {"confusion": np.ones((1, 2, 2)), "output_tasks": [0, 1, 1]},
        {"confusion": 3, "output_tasks": [0, 1]},
        {"confusion": np.zeros((0, 2, 2)), "output_tasks": [0, 1]},
        {"picture_confidence": [[0.5, 1.5]], "picture_correct": [[True, True]]},
        {"picture_confidence": [[0.5]], "picture_correct": [[True, True]]},
        {"picture_confidence": "rubbish", "picture_correct": [[True]]},
    ],
)
def test_what_is_no_record_is_said(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"confusion|output_tasks|picture_"):
        measure({"accs": ACCS, **changes})
