"""The picture of accuracies while tasks are trained: its lines are the curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.utils.conftest import Save
from utils.report.anytime import mean_curve, while_trained
from utils.report.figures import pictures
from utils.results.groups import grouped
from utils.results.runs import read_runs

TASKS, STEPS = np.array([0, 0, 1, 1, 2]), np.array([10, 20, 30, 40, 60])


def with_curve(seed: int) -> Any:
    def change(stats: dict[str, Any]) -> dict[str, Any]:
        accs = np.random.default_rng(seed).random((5, 3))
        accs[[1, 3, 4]] = stats["accs"]
        return stats | {"curve_tasks": TASKS, "curve_steps": STEPS, "curve_accs": accs}

    return change


def test_the_lines_are_the_mean_curves(save: Save) -> None:
    paths = [save(seed=seed, change=with_curve(seed)) for seed in (0, 1)]
    [group] = grouped(read_runs(paths)[0])
    found_curve, picture = mean_curve(group), while_trained(group)
    assert found_curve is not None and picture is not None
    curve, count = found_curve
    assert count == 2
    both = [run.stats["curve_accs"] for run in group.runs]
    np.testing.assert_allclose(curve.accs, (both[0] + both[1]) / 2)
    lines = picture.figure.axes[0].get_lines()
    found: dict[Any, list[tuple[float, float]]] = {}
    for line in lines:
        if line.get_linestyle() == "-":
            points = zip(*map(list, line.get_data()), strict=True)
            found.setdefault(line.get_color(), []).extend(points)
    assert len(found) == 3
    for task, points in enumerate(found.values()):
        expected = {*zip(STEPS.tolist(), (100 * curve.accs[:, task]).tolist(), strict=True)}
        assert np.allclose(sorted({*points}), sorted(expected))
    boundaries = [line.get_data()[0][0] for line in lines if line.get_linestyle() != "-"]
    assert boundaries == [20, 40]
    assert "5 tests" in picture.alt and "60 training steps" in picture.alt


def test_curves_are_joined_where_the_tests_are_the_same(save: Save) -> None:
    """Tasks of other lengths, as seeds that draw the classes have them: neither a longer curve nor
    one of as many tests stands in for the others, and the picture says of how many runs it is."""

    def otherwise(tasks: list[int], steps: list[int]) -> Any:
        def change(stats: dict[str, Any]) -> dict[str, Any]:
            accs = np.full((len(tasks), 3), 0.1)
            return stats | {"curve_tasks": tasks, "curve_steps": steps, "curve_accs": accs}

        return change

    save(seed=7, change=otherwise([0, 1, 1, 1, 2], [10, 20, 30, 40, 60]))
    save(seed=8, change=otherwise([0, 0, 1, 1, 2, 2], [10, 20, 30, 40, 50, 60]))
    paths = [save(seed=seed, change=with_curve(seed)) for seed in (0, 1)]
    [group] = grouped(read_runs([paths[0].parent])[0])
    found, picture = mean_curve(group), while_trained(group)
    assert found is not None and picture is not None and found[1] == 2
    both = [run.stats["curve_accs"] for run in group.runs if run.seed in (0, 1)]
    np.testing.assert_allclose(found[0].accs, (both[0] + both[1]) / 2)
    assert "the 2 of 4 runs that were tested at the same steps" in picture.title


def test_groups_without_have_none(save: Save) -> None:
    groups = grouped(read_runs([save(), save(name="Other", change=with_curve(3))])[0])
    names = [picture.name for picture in pictures(groups) if picture.name.startswith("anytime")]
    assert names == ["anytime_2_Other"]
