"""Three groups and more: all against the best, the trend of a sweep, and its curve."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from utils.report.__main__ import main
from utils.report.answers import Report, make_report
from utils.report.drawing import log_ticks
from utils.report.figures import pictures
from utils.report.ranking import rank
from utils.report.style import Picture
from utils.results.files import load_results
from utils.results.metrics import average_accuracy
from utils.results.runs import read_runs

Save = Callable[..., Path]
VALUES = (0.05, 0.1, 0.2, 0.4)


def made(folder: Path) -> Report:
    return make_report(*read_runs([folder]))


def swept(save: Save, values: tuple[float, ...] = VALUES, seeds: int = 4, **keys: Any) -> Path:
    """Runs whose accuracy is the lower the larger percent_on_fc is."""
    for (i, value), seed in itertools.product(enumerate(values), range(seeds)):
        path = save(seed=seed, percent_on_fc=value, lost=0.02 + 0.05 * i, **keys)
    return path.parent


def drawn(folder: Path, name: str) -> Picture:
    report = made(folder)
    return {p.name: p for p in pictures(report.groups, report.lines)}[name]


def ticks(figure: Figure, axis: str = "x") -> list[str]:
    """The numbers on an axis that are seen."""
    figure.draw_without_rendering()
    ax: Axes = figure.axes[0]
    low, high = sorted(getattr(ax, f"get_{axis}lim")())
    found = getattr(ax, f"{axis}axis").get_ticklabels()
    places = getattr(ax, f"{axis}axis").get_ticklocs()
    texts = [t.get_text() for t, at in zip(found, places, strict=True) if low <= at <= high]
    assert len({*texts}) == len(texts)
    return [text for text in texts if text]


def test_all_against_the_best_by_hand(save: Save) -> None:
    for name, lost in (("A", 0.3), ("B", 0.02), ("C", 0.025), ("D", 0.2)):
        for seed in range(4):
            folder = save(name, seed=seed, lost=lost).parent
    (ranking,) = made(folder).rankings
    accs = {
        name: [
            average_accuracy(load_results(path)[1]["accs"])
            for path in sorted(folder.glob("*.pkl"))
            if load_results(path)[0]["name"] == name
        ]
        for name in "ABCD"
    }
    assert ranking.groups[0].name == max(accs, key=lambda n: np.mean(accs[n]))
    best, others = ranking.groups[0].name, [group.name for group in ranking.groups[1:]]
    known = [stats.ttest_rel(accs[best], accs[name]) for name in others]
    for lead, test in zip(ranking.leads, known, strict=True):
        low, high = test.confidence_interval()
        assert lead.p == pytest.approx(test.pvalue)
        assert lead.difference.mean == pytest.approx((low + high) / 2)
        assert lead.difference.half == pytest.approx((high - low) / 2)
    # Holm for the six pairs from which these three were chosen.
    p, largest = sorted(test.pvalue for test in known), 0.0
    for rank_of, (value, lead) in enumerate(
        zip(p, sorted(ranking.leads, key=lambda c: c.p), strict=True)
    ):
        largest = max(largest, min(1.0, (6 - rank_of) * value))
        assert lead.p_adjusted == pytest.approx(largest)
    (said,) = ranking.sentences
    assert said.startswith(f"Of 4 groups on the same 3 tasks, {best} has the highest")
    assert "It is better than D and A by " in said and "may be ahead of " in said


def test_the_best_of_equals_is_seldom_called_better(save: Save) -> None:
    """Each of ten groups is drawn from the same numbers: the best is best by chance."""
    folder = swept(save, tuple(0.05 * i for i in range(1, 11)), seeds=1)
    groups, rng, wrong = made(folder).groups, np.random.default_rng(0), 0
    for _ in range(100):
        for group in groups:
            values = dict(enumerate(rng.normal(0.5, 0.1, 5)))
            object.__setattr__(group, "by_seed", lambda _, values=values: values)
            object.__setattr__(group, "values", lambda _, v=values: np.array([*v.values()]))
        wrong += any(lead.certain for lead in rank(groups).leads)
    assert wrong <= 10  # 5 % of 100, and what chance adds


def test_single_runs_are_not_called_better(save: Save) -> None:
    (first, *rest) = made(swept(save, seeds=1)).answer
    assert first.startswith("Sparse: of 4 values of percent_on_fc, 0.05 has the highest average")
    assert first.endswith("% (n = 1); single runs cannot tell that from chance.")
    assert "±" not in first and "no steady rise or fall" in rest[0]  # 2 of 24 orders


@pytest.mark.parametrize("done", [0, 2])
def test_groups_without_an_end_are_left_out(save: Save, done: int) -> None:
    folder = swept(save, VALUES[:3], done=done)
    assert [text.split(") ")[-1] for text in made(folder).answer] == [
        "came to its end, so there is no average accuracy."
    ] * 3
    save(seed=0, percent_on_fc=0.05)
    save(seed=1, percent_on_fc=0.1)
    assert made(folder).answer[0].startswith("Of 2 groups on the same 3 tasks, Sparse (percent")
    assert main([str(folder)]) == 0


def test_runs_without_any_spread(save: Save) -> None:
    def same(stats: dict[str, Any]) -> dict[str, Any]:
        return stats | {"accs": np.full((3, 3), 0.5)}

    folder = swept(save, change=same)
    said, steady = made(folder).answer
    assert "rho = +0.00, p = 1.00" in steady
    assert said.endswith("% (n = 4). It is equal to 0.1, 0.2 and 0.4.")
    assert main([str(folder)]) == 0


def test_seeds_that_only_some_groups_have(save: Save) -> None:
    for name, seeds in (("A", range(4)), ("B", range(1, 5)), ("C", range(7, 9))):
        for seed in seeds:
            folder = save(name, seed=seed, lost=0.1 * len(seeds)).parent
    report = made(folder)
    assert "3 groups: the best is compared with " not in " ".join(report.notes)  # C has other seeds
    save("D", seed=7, lost=0.5)
    save("D", seed=8, lost=0.5)
    save("D", seed=9, lost=0.5)
    (ranking,) = made(folder).rankings
    assert [lead.paired for lead in ranking.leads] == [
        {"A": False, "B": False, "D": True}[group.name] for group in ranking.groups[1:]
    ]
    note = "4 groups: the best is compared with 1 by the seeds that both have"
    assert note in made(folder).notes


def reaching(accuracy: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda stats: stats | {"accs": np.full((3, 3), accuracy)}


def test_a_group_that_is_surely_worse_is_not_the_best(save: Save) -> None:
    """A's mean is the highest for two seeds that B lacks, and B is better with each that both
    have."""
    accs = {
        "A": (0.80, 0.805, 0.81, 0.95, 0.95),
        "B": (0.85, 0.8551, 0.8603),
        "C": (0.70, 0.71, 0.72, 0.73, 0.74),
    }
    for name, found in accs.items():
        for seed, accuracy in enumerate(found):
            folder = save(name, seed=seed, change=reaching(accuracy)).parent
    (ranking,) = made(folder).rankings
    assert [group.name for group in ranking.groups] == ["B", "A", "C"]
    (said,) = ranking.sentences
    highest = (
        "B has the highest average accuracy over the seeds that all have, 85.5 ± 1.3 % (n = 3)"
    )
    assert highest in said and "It is better than A and C by 5.0 to 14.5 points (at 5 %" in said


def test_without_seeds_that_all_have_a_sure_lead_of_another_is_told(save: Save) -> None:
    accs = {
        "A": {0: 0.80, 1: 0.805, 2: 0.81, 3: 0.95, 4: 0.95},
        "B": {0: 0.85, 1: 0.8551, 2: 0.8603},
    }
    accs["C"] = {8: 0.7, 9: 0.6}
    for name, found in accs.items():
        for seed, accuracy in found.items():
            folder = save(name, seed=seed, change=reaching(accuracy)).parent
    (said,) = made(folder).rankings[0].sentences
    assert "A has the highest average accuracy, 86.3 " in said
    assert "is worse than B by 5.0 points on the seeds that both have" in said


def test_small_leads_have_digits(save: Save) -> None:
    for name, accuracy in (("A", 0.8), ("B", 0.7997), ("C", 0.7996)):
        for seed in range(4):
            noise = 1e-5 * (seed % 2)
            folder = save(name, seed=seed, change=reaching(accuracy + noise * (name == "A"))).parent
    (said,) = made(folder).rankings[0].sentences
    assert "It is better than B and C by 0.03 to 0.04 points" in said


def test_a_sweep_says_its_best_value_and_its_trend(save: Save) -> None:
    first, second = made(swept(save)).answer
    assert first.startswith("Sparse: of 4 values of percent_on_fc, 0.05 has the highest")
    assert "It is better than 0.1, 0.2 and 0.4 by " in first
    assert second.startswith("Sparse: accuracy falls with percent_on_fc from 0.05 to 0.4 (Spearman")
    assert "rho = −1.00, p < 0.001, permutation" in second


def test_sparse_and_dense_are_a_line_each(save: Save) -> None:
    for (i, lr), sparsify, seed in itertools.product(
        enumerate((0.001, 0.01, 0.1)), (True, False), range(3)
    ):
        folder = save(lr=lr, sparsify=sparsify, seed=seed, lost=0.1 * (i + sparsify)).parent
    report = made(folder)
    assert [line.label for line in report.lines] == [
        "Sparse (sparsify = true)",
        "Sparse (sparsify = false)",
    ]
    assert all(line.values == [0.001, 0.01, 0.1] for line in report.lines)
    assert report.answer[0].startswith("Sparse networks against their dense twins, 3 comparisons")
    assert sum("accuracy falls with lr" in text for text in report.answer) == 2
    picture = drawn(folder, "accuracy_by_lr")
    ax = picture.figure.axes[0]
    assert ax.get_xscale() == "log"
    assert ticks(picture.figure) == ["0.001", "0.01", "0.1"]


def test_the_curve_has_the_numbers(save: Save) -> None:
    folder = swept(save)
    for seed in range(4):
        save("Dense", seed=seed, sparsify=False, lost=0.1)
    picture = drawn(folder, "accuracy_by_percent_on_fc")
    mean, *_ = picture.figure.axes[0].lines
    groups = made(folder).groups
    assert list(mean.get_xdata()) == [*VALUES]
    np.testing.assert_allclose(
        mean.get_ydata(), [100 * g.values("average_accuracy").mean() for g in groups[:4]]
    )
    level = picture.figure.axes[0].lines[-1]  # the dense twin has no such key
    np.testing.assert_allclose(level.get_ydata(), 100 * groups[4].values("average_accuracy").mean())
    assert "Sparse (percent_on_fc = 0.05) 93.4 %; " in picture.alt
    assert ticks(picture.figure) == ["0.05", "0.1", "0.2", "0.4"]


def test_two_sections_are_a_line_each_and_other_keys_are_none(save: Save) -> None:
    for name, units, seed in itertools.product("AB", (20, 40), range(2)):
        folder = save(name, hidden_units=units, seed=seed, lr={"A": 0.1, "B": 0.3}[name]).parent
    save("Alone", grow_by="random", dynamic="grow")
    assert [(line.key, line.label) for line in made(folder).lines] == [
        ("hidden_units", "A"),
        ("hidden_units", "B"),
    ]


def test_a_point_where_other_keys_do_nothing_is_in_every_line(save: Save) -> None:
    save(boost_strength=0.0)  # where boost_strength_factor does nothing
    for strength, factor in itertools.product((0.5, 5.0, 50.0), (0.5, 1.0)):
        folder = save(boost_strength=strength, boost_strength_factor=factor).parent
    lines = [line for line in made(folder).lines if line.key == "boost_strength"]
    assert [line.values for line in lines] == [[0.0, 0.5, 5.0, 50.0]] * 2
    assert ticks(drawn(folder, "accuracy_by_boost_strength").figure) == ["0", "0.5", "5", "50"]


def test_a_key_that_changes_the_tasks_is_drawn_and_not_ranked(save: Save) -> None:
    for tasks, seed in itertools.product((2, 3, 5), range(2)):
        folder = save(num_batch=tasks, seed=seed).parent
    report = made(folder)
    assert not report.rankings
    assert [line.values for line in report.lines] == [[2, 3, 5]]
    assert ticks(drawn(folder, "accuracy_by_num_batch").figure) == ["2", "3", "5"]


def test_more_lines_than_can_be_told_apart_are_not_drawn(save: Save) -> None:
    for name, lr in itertools.product("ABCDEFGH", (0.1, 0.2)):
        folder = save(name, lr=lr).parent
    report = made(folder)
    assert "accuracy_by_lr" not in {p.name for p in pictures(report.groups, report.lines)}


@given(st.floats(1e-9, 1e6), st.floats(1, 9))
def test_a_logarithmic_axis_has_enough_numbers(low: float, decades: float) -> None:
    found = log_ticks(low, low * 10**decades)
    assert 3 <= len(found) <= 7
    assert len({f"{tick:g}" for tick in found}) == len(found)
    assert all(low <= tick <= low * 10**decades for tick in found)
    apart = np.diff(np.log10(found))
    assert apart.min() > 0.08 * decades  # no two numbers on each other


@pytest.mark.parametrize(
    "levels",
    [(0.05, 12.0), (0.05, 1.2), (0.3, 0.4), (8.0, 8.0), (0.001, 60.0), (0.09, 2.0), (40.0, 90.0)],
    ids=str,
)
def test_the_axis_of_active_units_has_numbers_in_every_range(
    save: Save, levels: tuple[float, float]
) -> None:
    for name, level in zip("AB", levels, strict=True):
        active = level * (1 + 0.02 * np.sin(np.arange(6)))
        path = save(name, change=lambda stats, a=active: stats | {"perc_on_avg": a})
    assert 3 <= len(ticks(drawn(path.parent, "active_units").figure, "y")) <= 10


@given(st.lists(st.integers(1, 4000), min_size=2, max_size=12, unique=True), st.booleans())
def test_the_axis_of_a_sweep_has_numbers_in_every_range(values: list[int], zero: bool) -> None:
    from utils.report.figures import _set_values

    ordered = [0.0 if zero else 0.5, *(float(value) for value in sorted(values))]
    with matplotlib.rc_context():
        figure = Figure(figsize=(4.3, 3))
        ax = figure.subplots()
        ax.plot(ordered, range(len(ordered)))
        _set_values(ax, ordered)
        assert 3 <= len(ticks(figure)) <= 13


def test_the_hint_is_a_command_that_works(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = swept(save)
    folder = folder.rename(tmp_path / "it's -- my $results")
    out = tmp_path / "the report"
    assert main([str(folder), "--out", str(out)]) == 0
    (hint,) = [line for line in capsys.readouterr().out.splitlines() if " --compare " in line]
    words = shlex.split(hint[hint.index("python -m utils.report ") :])
    assert words[:3] == ["python", "-m", "utils.report"]
    assert main(words[3:]) == 0
    first, second = words[-2:]
    groups = made(folder).groups
    said = capsys.readouterr().out.splitlines()[0]
    assert {groups[int(first) - 1].label, groups[int(second) - 1].label} <= {
        part for group in groups for part in [group.label] if part in said
    }
    assert not (folder / "report").exists()


def test_the_hint_at_files_that_are_a_whole_folder_is_the_folder(save: Save) -> None:
    from utils.report.write import command

    folder = swept(save, seeds=1)
    files = sorted(folder.glob("*.pkl"))
    assert command(files) == command([folder])
    assert command(files[:2]).endswith(f"{files[0]} {files[1]}")
    assert command(files[:1] * 9) == ""  # too long to be pasted


def test_tables_and_csv_have_the_leads(save: Save) -> None:
    folder = swept(save)
    assert main([str(folder)]) == 0
    rows = pd.read_csv(folder / "report" / "comparisons.csv")
    assert set(rows["among"]) == {"4 values of percent_on_fc, Sparse"}
    assert (rows["metric"] == "average_accuracy").all() and len(rows) == 3
    assert (rows["p_holm"] >= rows["p"]).all()
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "4 values of percent_on_fc, Sparse, the best and its lead on each" in page
    assert 'id="accuracy_by_percent_on_fc' in page
