"""Accuracies count every picture once, and a known task leaves no other class a chance."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.stream import Samples, Task
from utils.training.evaluation import BATCH, accuracy, restrict


class Answers:
    """Stands in for an engine: picture `row` has these logits and this label."""

    device = torch.device("cpu")

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        self.all_logits, self.labels = logits, labels
        self.asked: list[tuple[int, Tensor]] = []

    def logits(self, samples: Samples, head: int) -> tuple[Tensor, Tensor]:
        self.asked.append((head, samples.rows))
        return self.all_logits[samples.rows], self.labels[samples.rows]

    def found(self) -> Tensor | None:
        """The context of the task with number 1 for one picture in each batch, in its head."""
        head, rows = self.asked[-1]
        return (torch.arange(len(rows)) == 0).long() if head == 1 else None


def task(rows: Tensor, head: int = 0, outputs: tuple[int, ...] | None = None) -> Task:
    samples = Samples(rows, 0)
    return Task("made up", samples, samples, head, outputs)


def right_and_wrong(right: int, wrong: int) -> Answers:
    logits = torch.tensor([[0.0, 1.0]]).expand(right + wrong, 2)
    labels = torch.tensor([1] * right + [0] * wrong)
    return Answers(logits, labels)


def test_minus_infinity_loses_to_negative_logits() -> None:
    logits = torch.tensor([[-1.0, -2.0, -3.0]])
    allowed = (1, 2)
    times_zero = logits * torch.tensor([0.0, 1.0, 1.0])  # what the 2019 code did
    assert times_zero.argmax(1).item() == 0
    masked = restrict(logits, allowed)
    assert masked.tolist() == [[float("-inf"), -2.0, -3.0]]
    assert masked.argmax(1).item() == 1
    assert logits.tolist() == [[-1.0, -2.0, -3.0]]


def test_nothing_is_masked_where_nothing_is_known() -> None:
    logits = torch.randn(3, 4)
    assert restrict(logits, None) is logits


@given(
    st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=5, max_size=5
        ),
        min_size=1,
    ),
    st.sets(st.integers(0, 4), min_size=1),
)
def test_a_restricted_prediction_is_the_best_of_those_allowed(
    logits: list[list[float]], allowed: set[int]
) -> None:
    outputs = tuple(sorted(allowed))
    predicted = restrict(torch.tensor(logits), outputs).argmax(1).tolist()
    for row, best in zip(logits, predicted, strict=True):
        assert best in allowed
        assert row[best] == max(row[i] for i in outputs)


@pytest.mark.parametrize(("right", "wrong"), [(1, 0), (499, 1), (501, 1), (1000, 0), (1000, 203)])
def test_every_picture_counts_once(right: int, wrong: int) -> None:
    engine, n = right_and_wrong(right, wrong), right + wrong
    done: list[int] = []
    found = accuracy(engine, task(torch.arange(n)), 0, done.append)
    assert found[0] == right / n
    assert math.isnan(found[1])
    assert torch.cat([rows for _, rows in engine.asked]).tolist() == list(range(n))
    assert sum(done) == n
    assert max(done) <= BATCH["cpu"]


def test_each_task_has_its_own_pictures_head_and_outputs() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-3.0, -2.0, -1.0]])
    engine = Answers(logits, torch.tensor([0, 1, 1]))
    tasks = [
        task(torch.tensor([0, 1])),
        task(torch.tensor([0, 1]), head=1, outputs=(1, 2)),
        task(torch.tensor([2, 1, 1]), outputs=(0, 1)),
    ]
    found = [accuracy(engine, task, i) for i, task in enumerate(tasks)]
    assert [right for right, _ in found] == [0.5, 0.5, 1 / 3]
    assert found[1][1] == 0.5
    assert [head for head, _ in engine.asked] == [0, 1, 0]


def test_evaluation_changes_nothing_and_comes_out_the_same_twice(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    for engine_name in ("reference", "sparse", "dense"):
        exp = experiment(engine=engine_name)
        stream = stream_of(exp, test=130)
        engine, *_ = built(exp, stream)
        before = {k: v.clone() for k, v in engine.model.state_dict().items()}
        state = torch.get_rng_state()
        first, second = (accuracy(engine, stream.tasks[1], 1)[0] for _ in range(2))
        assert first == second
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(before[k], v) for k, v in engine.model.state_dict().items())
