"""What is kept of test pictures is what the network answers, and is kept once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.utils.test_pairs import METHODS, bits
from tests.utils.training.test_examiner import run

BOTH: dict[str, Any] = {"record": ("confidence", "confusion"), "train_ep": 1, "train_ep_inc": 1}
PARTS = ("picture_tasks", "picture_correct", "picture_confidence", "confusion", "output_tasks")
SCENARIOS = {
    "domain": {},
    "split, task": {"mnist_mode": "split", "scenario": "task"},
    "split, class": {"mnist_mode": "split", "scenario": "class"},
    "class, seen alone": {"mnist_mode": "split", "scenario": "class", "eval_tasks": "seen"},
    "perm, class": {"scenario": "class", "outputs": "seen"},
    "together": {"mnist_mode": "split", "scenario": "class", "cumul": True},
    "icarl": METHODS["icarl"],
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_they_agree_with_the_accuracies(
    experiment: Callable, stream_of: Callable, built: Callable, scenario: str
) -> None:
    exp = experiment(**{**BOTH, **SCENARIOS[scenario]})
    stream = stream_of(exp, test=30)
    record, _, _, _ = run(built, exp, stream)
    stats: Any = record.stats()
    found, accs = stats["picture_tasks"], stats["accs"]
    assert found.tolist() == [i for i, task in enumerate(stream.tasks) for _ in range(30)]
    for row, (right, sure) in enumerate(
        zip(stats["picture_correct"], stats["picture_confidence"], strict=True)
    ):
        for task in range(len(stream.tasks)):
            mine = found == task
            assert np.isnan(sure[mine]).all() == np.isnan(accs[row, task])
            if not np.isnan(accs[row, task]):
                assert right[mine].mean() == pytest.approx(accs[row, task])
                assert ((sure[mine] > 0) & (sure[mine] <= 1)).all()
        tested = accs[row][~np.isnan(accs[row])]
        assert stats["confusion"][row].sum() == 30 * len(tested)
        assert np.trace(stats["confusion"][row]) == pytest.approx(30 * tested.sum())
    outputs = sum(stream.head_sizes)
    assert stats["confusion"].shape == (len(accs), outputs, outputs)
    assert ("output_tasks" in stats) == (exp.scenario == "class")
    if exp.scenario == "class":
        each = outputs // exp.num_batch
        assert stats["output_tasks"].tolist() == np.repeat(range(exp.num_batch), each).tolist()


def test_they_are_those_of_the_network(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    """By heads of their own: task after task, the last time."""
    exp = experiment(**BOTH, mnist_mode="split", scenario="task")
    stream = stream_of(exp, test=30)
    record, found, _, _ = run(built, exp, stream)
    engine, _, _ = built(exp, stream)
    engine.model.load_state_dict(found["model"])
    stats: Any = record.stats()
    for i, task in enumerate(stream.tasks):
        model = engine.model.eval()
        scores = model(stream.inputs(stream.test, task.test), task.head).softmax(1)
        labels = stream.labels(stream.test, task.test)
        mine = slice(30 * i, 30 * i + 30)
        np.testing.assert_allclose(
            stats["picture_confidence"][-1, mine], scores.detach().amax(1), atol=1e-3
        )
        for right, predicted in zip(labels.tolist(), scores.argmax(1).tolist(), strict=True):
            stats["confusion"][-1, 2 * i + right, 2 * i + predicted] -= 1
    assert not stats["confusion"][-1].any()


@pytest.mark.parametrize("call", [3, 9, 17, 20])
def test_a_run_that_goes_on_in_the_middle_of_tests_counts_each_picture_once(
    experiment: Callable, stream_of: Callable, built: Callable, call: int
) -> None:
    exp = experiment(**BOTH, mnist_mode="split", scenario="class", num_batch=3)
    stream = stream_of(exp, train=96, test=20)
    whole, _, _, _ = run(built, exp, stream)
    calls = iter(range(10**9))
    _, _, tree, _ = run(built, exp, stream, lambda record: next(calls) == call)
    torch.manual_seed(1234)
    resumed, _, _, _ = run(built, exp, stream, tree=tree)
    assert bits(resumed.stats()) == bits(whole.stats())
    plain = experiment(**{**BOTH, "record": ()}, mnist_mode="split", scenario="class", num_batch=3)
    without = run(built, plain, stream)[0].stats()
    assert not {*PARTS} & {*without}
    stats = resumed.stats()
    assert bits(without) == bits({name: stats[name] for name in without})
