"""What the answers to test pictures come to (`record`): how sure, and which class for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from utils.results.arrays import numbers

NAN = float("nan")
BINS = 15  # of Guo et al.


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: sum_m |B_m| / n |acc(B_m) - conf(B_m)| over bins ((m-1)/M, m/M]
    of the confidence. NaN without pictures.

    confidence: float [n], 0 to 1, NaN for a picture that was not tested, which does not count;
    correct: bool [n]. Guo et al., On Calibration of Modern Neural
    Networks, 2017, with M = 15.
    """
    correct = np.asarray(correct, float)[tested := ~np.isnan(confidence)]
    confidence = confidence[tested]
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    off = np.bincount(place, correct - confidence, minlength=bins)
    return float(np.abs(off).sum() / len(confidence)) if len(confidence) else NAN


def recency_bias(confusion: np.ndarray, output_tasks: np.ndarray, latest: int) -> float:
    """Of the wrong predictions for pictures of the tasks up to the latest (from 0), the share that
    falls on its classes. NaN where none is wrong or tested, or there is one task.

    confusion: [classes, classes], right by predicted; output_tasks: int [classes]. The bias towards
    the latest classes is that of Wu et al., Large Scale Incremental Learning, 2019, and Masana et
    al., Class-Incremental Learning: Survey and Performance Evaluation on Image Classification, 2022
    (task-recency bias); this share of it is defined here.
    """
    wrong = confusion[output_tasks <= latest].astype(float)
    wrong[np.arange(len(wrong)), np.flatnonzero(output_tasks <= latest)] = 0
    total, onto = wrong.sum(), wrong[:, output_tasks == latest].sum()
    return float(onto / total) if total and latest else NAN


def last_confusion(stats: Mapping[str, Any]) -> np.ndarray | None:
    """How often each output was right and each predicted after the last task, [outputs, outputs];
    None where that was not recorded. Raises ValueError for what is no count."""
    found = _last(stats, "confusion", 2)
    if found is None:
        return None
    if found.shape[0] != found.shape[1] or not np.all(found >= 0):
        raise ValueError(f"confusion is {list(found.shape)} or holds what is no count")
    return found


def last_answers(stats: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Confidence, float [n], and whether it was right, bool [n], of the pictures that were tested
    after the last task; None where that was not recorded."""
    confidence, correct = (_last(stats, f"picture_{n}", 1) for n in ("confidence", "correct"))
    if confidence is None or correct is None:
        return None
    known = ~np.isnan(confidence)
    if confidence.shape != correct.shape or not np.all(np.abs(2 * confidence[known] - 1) <= 1):
        raise ValueError("picture_confidence and picture_correct do not fit together")
    return confidence[known], correct[known] > 0


def error_of_calibration(stats: Mapping[str, Any]) -> float:
    """`calibration_error` after the last task, over all pictures tested then."""
    found = last_answers(stats)
    return NAN if found is None else calibration_error(*found)


def bias_to_the_latest(stats: Mapping[str, Any]) -> float:
    """`recency_bias` after the last task; NaN where all were trained together."""
    confusion, tasks = last_confusion(stats), numbers(stats, "output_tasks", 1)
    if confusion is None or tasks is None or not len(tasks):
        return NAN
    if len(stats["accs"]) == 1 < len(stats["accs"][0]):
        return NAN
    if tasks.shape != confusion.shape[:1] or np.isnan(tasks).any():
        raise ValueError(f"output_tasks is {list(tasks.shape)}, confusion {list(confusion.shape)}")
    return recency_bias(confusion, tasks, int(tasks.max()))


def _last(stats: Mapping[str, Any], name: str, dimensions: int) -> np.ndarray | None:
    """The last row of a part, as numbers: the others may be many."""
    rows = stats.get(name)
    if rows is None:
        return None
    try:
        row = rows[-1]
    except (TypeError, IndexError, KeyError):
        raise ValueError(f"{name} has no rows") from None
    return numbers({name: row}, name, dimensions)
