"""What a report draws of networks that change with the tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from exps.config import Experiment
from utils.report.__main__ import main
from utils.report.changes import EACH, OVERALL, synapses_by_birth
from utils.report.drawing import CHANGES
from utils.report.figures import pictures
from utils.results.groups import Group, grouped
from utils.results.runs import read_runs

Save = Callable[..., Path]
LINES = {chart.name for chart in OVERALL}


def changing(exp: Experiment, tasks: int | None = None) -> dict[str, Any]:
    """What a run with contexts and old synapses adds to its stats after so many tasks, or all: in
    a hidden layer of 100 weights and a classifier of 20, every task adds a share of the synapses.
    """
    tasks, every = exp.num_batch if tasks is None else tasks, exp.num_batch
    weights = np.array([100 * every, 20 * every])
    births = np.zeros((tasks, 2, every + 1), np.int64)
    for i in range(tasks):
        births[i, :, 1 : i + 2] = [[40], [20]]
    count = births.sum(2)
    ages = np.zeros((tasks, 2, 6), np.int64)
    ages[:, :, 0] = births[:, :, 1]
    ages[:, :, -1] = count - ages[:, :, 0]
    right = np.where(np.tri(every, dtype=bool), 0.9, np.nan)
    right[tasks:] = np.nan
    return {
        "weights": weights,
        "synapses": count,
        "density": count / weights,
        "synapses_by_birth": births,
        "synapses_by_age": ages,
        "frozen_synapses": ages[:, :, -1] / count,
        "learning_rate_factor": ages[:, :, 0] / count,
        "fresh_units": np.full((tasks, 1), 7),
        "context_right": right,
    }


def groups_of(path: Path) -> list[Group]:
    runs, problems = read_runs([path])
    assert problems == []
    return grouped(runs)


def names_of(groups: list[Group]) -> set[str]:
    return {p.name for p in pictures(groups) if p.heading == CHANGES}


def add(exp: Experiment, tasks: int | None = None, **other: Any) -> Callable[..., dict[str, Any]]:
    """A change of stats for `save`: those of a network that changes."""
    return lambda stats: stats | changing(exp, tasks) | other


def test_a_network_that_changes_is_drawn(save: Save) -> None:
    exp = Experiment(name="x", num_batch=3)
    for seed in range(2):
        save("Changes", seed=seed, change=add(exp))
    groups = groups_of(save("Plain", seed=0).parent)
    assert names_of(groups) == LINES | {"synapses_by_birth_1_Changes", "synapses_by_age_1_Changes"}
    drawn = {p.name: p for p in pictures(groups)}
    alt = drawn["synapses_by_birth_1_Changes"].alt
    assert "hidden layer 1 120, of which 40 were born in the last task; classifier 60" in alt
    assert "Changes 90" in drawn["context_found"].alt and "Plain" not in drawn["context_found"].alt
    assert "Changes 50" in drawn["synapses_in_use"].alt  # 180 of 360 weights


def test_networks_that_do_not_change_have_no_such_pictures(save: Save) -> None:
    assert names_of(groups_of(save("Plain"))) == set()


def heights(figure: Figure) -> list[list[float]]:
    """The height of every bar, by panel."""
    panels = [ax for ax in figure.axes if ax.get_ylabel() == "synapses"]
    return [[bar.get_height() for bar in ax.patches] for ax in panels]


def test_bars_are_the_synapses_by_birth(save: Save) -> None:
    exp = Experiment(name="x", num_batch=3)
    [group] = groups_of(save(change=add(exp)))
    picture = synapses_by_birth(group)
    assert picture is not None
    assert heights(picture.figure) == [
        [40, 40, 40, 0, 40, 40, 0, 0, 40],
        [20, 20, 20, 0, 20, 20, 0, 0, 20],
    ]
    axis = picture.figure.axes[1]
    assert (axis.get_xlabel(), axis.get_title("left")) == ("after training on task", "classifier")


@pytest.mark.parametrize("tasks", [1, 25, 26, 60])
def test_any_number_of_tasks(save: Save, tasks: int) -> None:
    exp = Experiment(name="x", num_batch=tasks)
    [group] = groups_of(save(num_batch=tasks, change=add(exp)))
    for picture in (draw(group) for draw in EACH):
        assert picture is not None and "<svg" in picture.svg()


def test_a_run_cut_short_is_drawn_as_far_as_it_came(save: Save) -> None:
    exp = Experiment(name="x", num_batch=3)
    [group] = groups_of(save(done=2, change=add(exp, 2)))
    picture = synapses_by_birth(group)
    assert picture is not None
    assert "hidden layer 1 80, of which 40 were born in the last task" in picture.alt
    assert np.isnan(group.runs[0].metrics["synapses_in_use"])


def test_metrics_of_change(save: Save) -> None:
    exp = Experiment(name="x", num_batch=3)
    folder = save(change=add(exp)).parent
    assert main([str(folder)]) == 0
    row = pd.read_csv(folder / "report" / "runs.csv").iloc[0]
    found = row[["context_found", "synapses_in_use", "frozen_synapses"]]
    assert found.tolist() == pytest.approx([0.9, 0.5, 2 / 3])
    assert "context found (%)" in (folder / "report" / "tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synapses_by_birth", np.zeros((3, 2, 9))),
        ("synapses_by_birth", np.zeros((3, 2, 4))),
        ("synapses_by_birth", np.full((3, 2, 4), -1)),
        ("synapses_by_birth", np.full((3, 2, 4), 1e9)),
        ("synapses_by_birth", "many"),
        ("weights", np.ones(3)),
        ("weights", None),
        ("frozen_synapses", np.full((3, 2), 1.5)),
        ("frozen_synapses", np.full((3, 2), np.nan)),
        ("learning_rate_factor", np.zeros((2, 2))),
        ("fresh_units", np.zeros((3, 2))),
        ("synapses_by_age", np.zeros((3, 2, 5))),
        ("context_right", np.full((3, 3), 2.0)),
        ("context_right", np.zeros((2, 2))),
    ],
    ids=str,
)
def test_what_does_not_fit_is_no_result(save: Save, name: str, value: Any) -> None:
    exp = Experiment(name="x", num_batch=3)
    path = save(change=add(exp, None, **{name: value}))
    runs, [problem] = read_runs([path])
    assert runs == [] and "not a result that can be reported" in problem


def test_results_from_before_births_were_recorded(save: Save) -> None:
    """They have counts of other names; what both have is drawn."""
    old = {"fresh_units": np.full((3, 1), 7), "synapses_in_use": np.array([10, 20, 30])}
    right = changing(Experiment(name="x", num_batch=3))["context_right"]
    path = save(change=lambda stats: stats | old | {"context_right": right})
    assert names_of(groups_of(path)) == {"context_found"}


def test_figures_are_those_of_this_report(save: Save) -> None:
    save("One")
    folder = save("Two", seed=1).parent
    assert main([str(folder)]) == 0
    figures = folder / "report" / "figures"
    assert (figures / "accuracy_matrix_2_Two.png").exists()
    (figures / "mine.png").write_text("")
    outside = folder / "report" / "keep.png"
    outside.write_text("")
    with (figures / "figures.txt").open("a") as listed:
        listed.write("../keep.png\n")
    next(folder.glob("*_s1.pkl")).unlink()
    assert main([str(folder)]) == 0
    left = {path.name for path in figures.iterdir()}
    assert not {name for name in left if "Two" in name} and "average_accuracy.png" not in left
    assert left - {"mine.png", "figures.txt"} == set(
        (figures / "figures.txt").read_text().splitlines()
    )
    assert (figures / "mine.png").exists() and outside.exists()
