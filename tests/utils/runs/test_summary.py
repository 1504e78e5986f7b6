"""What a run says at its end, and what --dry-run says before one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import make_stream
from models import make_model
from utils.engines.choose import make_engine
from utils.engines.meter import EpochRecord
from utils.methods.base import Costs
from utils.runs.summary import accuracy_table, clock, headline, plan, run_summary
from utils.training.record import NOT_KEPT, RunRecord, empty_record

NAN = float("nan")


def numbers(line: str) -> list[str]:
    return line.split("|")[1].split()


def test_the_accuracy_matrix() -> None:
    lines = accuracy_table(np.array([[0.9, NAN, NAN], [0.5, 1.0, 0.004]]), width=80).splitlines()
    assert numbers(lines[0]) == ["1", "2", "3"]
    assert numbers(lines[1]) == ["90.0", "-", "-"]
    assert numbers(lines[2]) == ["50.0", "100.0", "0.4"]
    assert [line.split("|")[0].split() for line in lines[1:]] == [
        ["after", "task", "1", "90.0"],
        ["after", "task", "2", "50.1"],
    ]
    assert len({line.index("|") for line in lines}) == 1


def test_one_training_on_all_tasks() -> None:
    (_, line) = accuracy_table(np.array([[0.25, 0.75]]), width=80).splitlines()
    assert "all tasks" in line
    assert line.split("|")[0].split()[-1] == "50.0"


@given(st.integers(1, 120), st.integers(1, 120), st.integers(40, 250))
def test_the_table_fits(trained: int, tested: int, width: int) -> None:
    lines = accuracy_table(np.full((trained, tested), 1.0), width=width).splitlines()
    rows = lines[: trained + 1]
    shown = len(numbers(rows[0]))
    assert max(map(len, lines)) <= width
    assert {len(numbers(row)) for row in rows} == {shown}
    if shown < tested:
        assert lines[-1] == f"({tested - shown} more columns are in the result)"
        assert len(rows[-1]) + len(" 100.0") > width  # no more would fit
    else:
        assert len(lines) == trained + 1


def test_ten_tasks_fit_into_an_ordinary_terminal() -> None:
    lines = accuracy_table(np.full((10, 10), 1.0), width=80).splitlines()
    assert len(lines) == 11
    assert numbers(lines[0])[-1] == "10"


def recorded(accs: np.ndarray, epochs: Any = (), elapsed: float = 0.0) -> RunRecord:
    return RunRecord(accs, np.zeros(accs.shape[1]), [], [], list(epochs), elapsed=elapsed)


def epoch(active: float) -> EpochRecord:
    return EpochRecord(1.0, 0.5, active, 0.0, NOT_KEPT, np.zeros(0), None)


def test_the_summary_of_a_run() -> None:
    accs = np.array([[0.9, 0.1], [0.5, 0.7]])
    text = run_summary(recorded(accs, [epoch(2.0), epoch(3.0)], elapsed=75))
    assert "mean accuracy after the last task: 60.00 %" in text
    assert "2.5 %" in text
    assert "1 min 15 s" in text


def test_the_summary_of_an_interrupted_run() -> None:
    accs = np.array([[0.9, 0.2], [NAN, NAN]])
    text = run_summary(recorded(accs, [epoch(2.0)], elapsed=3))
    assert "after task 1" in text
    assert "after task 2" not in text
    assert "mean accuracy after task 1 of 2: 55.00 %" in text


def test_the_summary_of_nothing() -> None:
    assert run_summary(recorded(np.full((2, 2), NAN))) == "time: 0.0 s"


def test_the_summary_of_methods_that_cost_something() -> None:
    record = recorded(np.ones((1, 1)))
    assert "cost" not in run_summary(record)
    record.add_costs("none", Costs())
    record.add_costs("er", Costs(pictures=500, memory=8000, macs=1234))
    record.add_costs("ewc", Costs(parameters=2000))
    assert (
        "\ncost of methods: er: 500 pictures kept, 8,000 bytes for them, 1,234 multiply-adds a"
        " step; ewc: 2,000 numbers beside the network\n"
    ) in run_summary(record)


def test_the_summary_without_statistics() -> None:
    text = run_summary(recorded(np.ones((1, 1)), [epoch(NAN)]))
    assert "active" not in text


def test_tasks_not_seen_do_not_count_in_the_mean() -> None:
    text = run_summary(recorded(np.array([[0.9, NAN, NAN], [0.5, 0.7, NAN]])))
    assert "mean accuracy after the last task: 60.00 %" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (245.4, "4 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_headline(experiment: Callable, stream_of: Callable, built: Callable) -> None:
    exp = experiment(seed=7, engine="sparse")
    stream = stream_of(exp)
    line = headline(exp, stream, built(exp, stream)[0], "cpu")
    facts = ("Test", "2 tasks", "domain-incremental", "sparse MLP", "seed 7", "cpu", "mnist")
    for fact in (*facts, "sparse engine in fp32"):
        assert fact in line
    assert "\n" not in line


def planned(exp: Any, stream: Any) -> str:
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    return plan(exp, stream, make_engine(exp, model, stream, torch.device("cpu")))


def test_the_plan_shows_every_key_the_model_and_the_tasks(
    experiment: Callable, stream_of: Callable
) -> None:
    exp = experiment(mnist_mode="split", num_batch=3, scenario="task", weight_sparsity_fc=0.5)
    text = planned(exp, stream_of(exp, train=100, test=50))
    for key in exp.keys:
        assert f"\n  {key} = " in text
    assert "scenario = task" in text
    assert "SparseWeights" in text
    assert "KWinners" in text
    assert "2. digits 2, 3: 100 training, 50 test pictures, head 2" in text


def test_the_plan_counts_what_is_trained_in_the_time_of_a_task(experiment: Callable) -> None:
    keys = {"mnist_mode": "split", "classes_per_task": (7, 3), "scenario": "class"}
    exp = experiment(**keys, stream="random")
    text = planned(exp, make_stream(exp))
    assert text.count(": 30,000 training, ") == 2


def test_the_costs_in_the_plan(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(weight_sparsity_fc=0.5)
    text = planned(exp, stream_of(exp))
    (line,) = [line for line in text.splitlines() if line.startswith("total")]
    weights, head = 784 * 64, 640
    params = [f"{n:,}" for n in (weights + 64 + head + 10, weights // 2 + 64 + head + 10)]
    macs = [f"{n:,}" for n in (weights + head, weights // 2 + head // 8)]  # 8 of 64 win
    assert line.split()[1:] == params + macs


def test_the_contexts_in_the_plan(experiment: Callable, stream_of: Callable) -> None:
    with_contexts = experiment(context="prototype", context_units=16)
    line = "(contexts: a task has 16 of the 64 units of each hidden layer;"
    assert line in planned(with_contexts, stream_of(with_contexts))
    without = experiment(context="prototype", context_units=16, sparsify=False)
    assert "(contexts" not in planned(without, stream_of(without))


@pytest.mark.parametrize(
    ("changes", "steps", "pictures", "tested"),
    [
        # 100 pictures in mini-batches of 32 are 4 steps; 2 epochs, then 3, then 3
        ({}, 4 * 8, 800, 3 * 3 * 50 + 3 * 50),  # untrained, and after each task
        ({"eval_tasks": "seen"}, 4 * 8, 800, (1 + 2 + 3) * 50),
        ({"cumul": True}, 10 * 2, 600, 3 * 50),
        ({"cumul": True, "eval_tasks": "seen"}, 10 * 2, 600, 3 * 50),
    ],
)
def test_the_work_in_the_plan(
    experiment: Callable,
    stream_of: Callable,
    changes: dict[str, Any],
    steps: int,
    pictures: int,
    tested: int,
) -> None:
    exp = experiment(num_batch=3, train_ep=2, train_ep_inc=3, **changes)
    text = planned(exp, stream_of(exp, train=100, test=50))
    assert f"{steps} training steps ({pictures} pictures), {tested} pictures tested" in text
    flop = 2 * (784 * 64 + 640) * (3 * pictures + tested)
    assert f"{flop / 1e12:,.3g} Tflop" in text
    assert ("trained once on all of them: 300 pictures" in text) == ("cumul" in changes)
    watching = planned(replace(exp, patience=1), stream_of(exp, train=100, test=50))
    assert f"work: at most {steps} training steps" in watching


def test_many_tasks_are_shortened(experiment: Callable, stream_of: Callable) -> None:
    exp = experiment(num_batch=30, hidden_units=16)
    lines = planned(exp, stream_of(exp)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  1. permutation 1:"))
    assert lines[start + 9].startswith("  10. permutation 10:")
    assert lines[start + 10] == "  ..."
    assert lines[start + 11].startswith("  30. permutation 30:")


def test_an_empty_record_has_a_place_for_every_accuracy(
    experiment: Callable, stream_of: Callable
) -> None:
    for cumul, rows in ((False, 3), (True, 1)):
        exp = experiment(num_batch=3, cumul=cumul)
        stream = stream_of(exp)
        model = make_model(experiment(), stream.input_shape, stream.head_sizes)
        record = empty_record(exp, stream, model)
        assert record.accs.shape == (rows, 3)
        assert record.untrained.shape == (3,)
        assert np.isnan(record.accs).all() and np.isnan(record.untrained).all()
        assert record.layers == ["hidden.0.activation"]


@pytest.mark.parametrize(
    ("changes", "tests", "pictures", "tested"),
    [
        # tasks of 8, 12 and 12 steps
        ({"eval_every": 5}, 1 + 2 + 2, 5 * 3 * 50, 4 * 3 * 50),
        ({"eval_every": 4, "eval_tasks": "seen"}, 1 + 2 + 2, (1 + 2 * 2 + 2 * 3) * 50, 6 * 50),
        ({"eval_every": 6, "eval_pictures": 20}, 3, 3 * 3 * 20, 4 * 3 * 50),
        ({"eval_every": 6, "cumul": True}, 3, 3 * 3 * 50, 3 * 50),
    ],
)
def test_the_tests_within_tasks_in_the_plan(
    experiment: Callable,
    stream_of: Callable,
    changes: dict[str, Any],
    tests: int,
    pictures: int,
    tested: int,
) -> None:
    exp = experiment(num_batch=3, train_ep=2, train_ep_inc=3, **changes)
    text = planned(exp, stream_of(exp, train=100, test=50))
    share = 100 * pictures / (3 * (600 if exp.cumul else 800) + tested + pictures)
    said = f"{tests} tests within tasks ({pictures} pictures, {share:.0f} % of the work);"
    assert said in text
    assert f", {tested} pictures tested;" in text


def test_both_accuracies_of_the_class_scenario_are_said() -> None:
    accs, untrained = np.array([[0.5, 0.25]]), np.zeros(2)
    record = RunRecord(accs, untrained, [], [], given=np.array([[1.0, 0.5]]))
    record.context_right = np.full((1, 2), np.nan)
    said = "mean accuracy after the last task: 37.50 %; 75.00 % where the task is known"
    assert said in run_summary(record)
