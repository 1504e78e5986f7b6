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
    assert math.isnan(found.given_task) and math.isnan(found.in_context)
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
    assert [one.accuracy for one in found] == [0.5, 0.5, 1 / 3]
    assert found[1].in_context == 0.5
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


def test_what_is_right_among_the_outputs_of_the_task_alone() -> None:
    logits = torch.tensor([[9.0, 0.0, 2.0, 1.0], [9.0, 0.0, 1.0, 2.0], [0.0, 9.0, 1.0, 3.0]])
    engine = Answers(logits, torch.tensor([2, 2, 3]))
    found = accuracy(engine, task(torch.arange(3)), 0, own=torch.tensor([2, 3]))
    assert (found.accuracy, found.given_task) == (0, 2 / 3)
    found = accuracy(engine, task(torch.arange(3), outputs=(0, 1)), 0, own=torch.tensor([2, 3]))
    assert (found.accuracy, found.given_task) == (0, 2 / 3)  # whatever else is chosen among


@pytest.mark.parametrize("outputs", ["all", "seen"])
@pytest.mark.parametrize("mode", ["split", "perm"])
def test_one_run_has_the_accuracies_of_two_scenarios(
    experiment: Callable, stream_of: Callable, trained: Callable, mode: str, outputs: str
) -> None:
    exp = experiment(mnist_mode=mode, scenario="class", outputs=outputs, lr=0.05)
    stream = stream_of(exp, test=200)
    record, engine = trained(exp, stream)
    stats = record.stats()
    assert stats["accs_given_task"].shape == (2, 2)
    assert (stats["accs_given_task"] >= stats["accs"]).all()
    each = 2 if mode == "split" else 10
    for i, one in enumerate(stream.tasks):
        scores = engine.model.eval()(stream.inputs(stream.test, one.test), 0)
        chosen = each * i + scores[:, each * i : each * (i + 1)].argmax(1)
        right = (chosen == stream.labels(stream.test, one.test)).float().mean()
        assert stats["accs_given_task"][1, i] == pytest.approx(float(right))


@pytest.mark.parametrize("scenario", ["task", "domain"])
def test_where_the_task_is_known_or_no_question_there_is_one_matrix(
    experiment: Callable, stream_of: Callable, trained: Callable, scenario: str
) -> None:
    exp = experiment(mnist_mode="split", scenario=scenario)
    assert "accs_given_task" not in trained(exp, stream_of(exp))[0].stats()
