"""The pictures of a report. Axes say what was trained and what was tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.report import anytime, changes, drawing
from utils.report.canvas import Axes, Figure, MaxNLocator
from utils.report.ranking import Line
from utils.report.statistics import estimate
from utils.report.style import DASHES, INK, MARKERS, SERIES, TASKS, Picture, style
from utils.report.wording import MAIN
from utils.results import answers, metrics
from utils.results.arrays import numbers
from utils.results.groups import Group, twins
from utils.results.runs import Run


def pictures(groups: Sequence[Group], lines: Sequence[Line] = ()) -> list[Picture]:
    """Every picture that there are data for, those of sweeps and of all groups first."""
    with style():
        keys, pairs = dict.fromkeys(line.key for line in lines), twins(groups)
        swept = [sweep([line for line in lines if line.key == key], pairs) for key in keys]
        overall = [draw(groups) for draw in _OVERALL]
        each = [draw(group) for group in groups for draw in _EACH]
    return [picture for picture in (*swept, *overall, *each) if picture is not None]


def averages(groups: Sequence[Group]) -> Picture | None:
    """The average accuracy of every group, with its interval, and of every run."""
    groups = [group for group in groups if estimate(group.values(MAIN)).n]
    if len(groups) < 2:
        return None
    lines = max(drawing.two_lines(group.label).count("\n") + 1 for group in groups)
    figure = Figure(figsize=(drawing.WIDTH, 0.9 + (0.3 + 0.14 * lines) * len(groups)))
    ax = figure.subplots()
    said = []
    for y, group in enumerate(groups):
        values = 100 * group.values(MAIN)
        found = estimate(values)
        look = drawing.look_of(group) | {"linestyle": "-"}
        half = None if np.isnan(found.half) else found.half
        ax.errorbar(found.mean, y, xerr=half, **look, capsize=4, markersize=7)
        ax.plot(values, np.full(len(values), y + 0.2), ".", color=look["color"], alpha=0.6)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "bottom", "size": 8}
        ax.annotate(drawing.two_lines(group.label), (0, y - 0.15), **place)
        said.append(f"{group.label} {found.mean:.1f} %")
    ax.set(xlabel="average accuracy after the last task (%)", yticks=[])
    ax.set_ylim(len(groups) - 0.5, -0.85)
    ax.spines["left"].set_visible(False)
    title = "Average accuracy (point and bar: mean and 95 % interval; dots: runs)"
    alt = f"{title}: {'; '.join(said)}."
    return Picture(drawing.OVERALL, "average_accuracy", title, alt, figure)


def sweep(lines: Sequence[Line], pairs: Sequence[tuple[Group, Group]]) -> Picture | None:
    """The average accuracy against a key of numbers: a line for each section and network, and of
    the pairs, which are twins, the dense ones in which the key does nothing as level lines.
    """
    if len(lines) > len(SERIES):  # they could not be told apart
        return None
    key, points = lines[0].key, {group for line in lines for group in line.groups}
    levels = list(dict.fromkeys(d for s, d in pairs if s in points and key not in d.config))
    looks = [
        {"color": colour, "marker": MARKERS[i % len(MARKERS)]} for i, colour in enumerate(SERIES)
    ]
    flat: dict[Group, dict[str, Any]] = {
        d: {"color": INK, "linestyle": DASHES[1 + i % 3]} for i, d in enumerate(levels)
    }
    labels = [line.label for line in lines] + [dense.label for dense in levels]
    said: list[str] = []
    figure, ax = drawing.chart(labels, [*looks[: len(lines)], *flat.values()])
    for line, look in zip(lines, looks, strict=False):
        curves = [100 * group.values(MAIN) for group in line.groups]
        found = [estimate(values) for values in curves]
        band = np.array([(f.mean - f.half, f.mean, f.mean + f.half) for f in found]).T
        drawing.draw_line(ax, np.array(line.values), band, look)
        said += [f"{g.label} {f.mean:.1f} %" for g, f in zip(line.groups, found, strict=True)]
        for x, values in zip(line.values, curves, strict=True):
            ax.plot(np.full(len(values), x), values, ".", color=look["color"], alpha=0.6)
    for dense, dashed in flat.items():
        ax.axhline(100 * estimate(dense.values(MAIN)).mean, **dashed)
    _set_values(ax, sorted({value for line in lines for value in line.values}))
    ax.set(xlabel=key, ylabel="average accuracy (%)")
    title = f"Average accuracy against {key} (band: 95 % interval; dots: runs)"
    alt = f"{title}: {'; '.join(said)}."
    return Picture(drawing.OVERALL, f"accuracy_by_{key}", title, alt, figure)


def _set_values(ax: Axes, values: Sequence[float]) -> None:
    """An axis for values of a key, with these as its numbers where there is room; logarithmic where
    those above 0 span a decade or more.
    """
    positive = [value for value in values if value > 0]
    wide = len(positive) > 1 and values[-1] >= 10 * positive[0]
    if wide and values[0] > 0:
        ax.set_xscale("log")
    elif wide:  # from 0 to the first of the others it is even
        ax.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        ax.set_xlim(left=-positive[0] / 5)
    places = ax.xaxis.get_transform().transform(np.array(values))
    letters = max(len(f"{value:g}") for value in values)
    if np.diff(places).min() >= (6 * letters + 4) / 250 * np.ptp(places):  # points, of the axis
        drawing.set_ticks(ax.xaxis, values)
    elif wide:
        ticks = drawing.log_ticks(positive[0], values[-1])
        drawing.set_ticks(ax.xaxis, [*values[: values[0] == 0], *ticks])
    else:
        whole = all(value.is_integer() for value in values)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=whole, steps=[1, 2, 2.5, 5, 10]))


def _lost(run: Run) -> np.ndarray | None:
    one_by_one = not run.cumul and len(run.accs) > 1
    return metrics.forgetting_curves(run.accs)[-1, :-1] if one_by_one else None


def _active(run: Run) -> np.ndarray | None:
    found = numbers(run.stats, "perc_on_avg", 1)
    return found if found is not None and found.any() else None


_LINES = (
    drawing.LineChart(
        "accuracy_seen",
        "Mean accuracy on the tasks trained so far",
        "accuracy on tasks so far (%)",
        lambda run: metrics.accuracy_seen(run.accs),
        floor=None,
    ),
    drawing.LineChart(
        "accuracy_all",
        "Mean accuracy on all tasks, those still to come included",
        "accuracy on all tasks (%)",
        lambda run: np.mean(run.accs, axis=1) if run.accs.shape[1] > 1 else None,
    ),
    drawing.LineChart(
        "forgetting_by_task",
        "Forgetting of each task at the end: best earlier accuracy minus last",
        "forgetting at the end (points)",
        _lost,
        "tested on task",
        floor=None,
    ),
    drawing.LineChart(
        "active_units",
        "Active units in training, after dropout",
        "inputs of the classifier on (%)",
        _active,
        "training epoch, over all tasks",
        scale=1,
        logarithmic=True,
    ),
    drawing.LineChart(
        "entropy",
        "Entropy of the duty cycles of all k-winner layers",
        "entropy (% of its maximum)",
        lambda run: metrics.entropies(run.stats),
        "training epoch, over all tasks",
        floor=None,
    ),
)


def accuracy_matrix(group: Group) -> Picture | None:
    """The accuracy on every task after every task, mean over the runs."""
    accs = 100 * mean_matrix(group)
    last, ends = accs[-1], "The last task was not reached."
    if not np.isnan(last).all():
        ends = f"After the last task from {np.nanmin(last):.0f} to {np.nanmax(last):.0f} %."
    alt = f"Heat map of accuracy, {group.label}: rows are tasks trained, columns tasks tested."
    alt += f" {ends}"
    y_label = "trained on all tasks" if group.cumul else drawing.AFTER
    figure = drawing.heat_map(accs, "tested on task", y_label, "accuracy (%)")
    name = f"accuracy_matrix_{drawing.file_part(group)}"
    return Picture(drawing.MATRICES, name, f"Accuracy matrix: {group.label}", alt, figure)


def confusion(group: Group) -> Picture | None:
    """Which class was taken for which after the last task, over all runs."""
    every = [answers.last_confusion(run.stats) for run in group.drawn]
    found = [one for one in every if one is not None and one.any()]
    if not found or len({one.shape for one in found}) > 1:
        return None
    total = np.sum(found, axis=0)
    with np.errstate(invalid="ignore"):  # a class without pictures
        shares = 100 * total / total.sum(1, keepdims=True)
    labels = "predicted class, in the order of the outputs", "right class", "of its pictures (%)"
    figure = drawing.heat_map(shares, *labels)
    right = 100 * np.trace(total) / total.sum()
    title = f"Classes taken for others after the last task: {group.label}"
    alt = f"Heat map. {title}: rows are right classes, columns predictions; {right:.1f} % right."
    return Picture(drawing.MATRICES, f"confusion_{drawing.file_part(group)}", title, alt, figure)


def winner_overlap(group: Group) -> Picture | None:
    """How much every two tasks use the same units, mean over the runs."""
    found = [usage for run in group.drawn if (usage := metrics.usage(run.stats)) is not None]
    if not found or len({len(usage) for usage in found}) > 1 or len(found[0]) < 2:
        return None
    overlap = 100 * np.mean([metrics.winner_overlaps(usage) for usage in found], axis=0)
    labels = "units on while training on task", "and while training on task", "overlap (%)"
    figure = drawing.heat_map(overlap, *labels, first=_first_task(group))
    between = overlap[np.triu_indices(len(overlap), 1)]
    alt = (
        f"Heat map of the overlap of active units of every two tasks, {group.label}: from"
        f" {np.nanmin(between):.0f} to {np.nanmax(between):.0f} %."
    )
    name = f"winner_overlap_{drawing.file_part(group)}"
    return Picture(drawing.OVERLAP, name, f"Winner overlap: {group.label}", alt, figure)


def _first_task(group: Group) -> int:
    """The number of the task that its runs have trained first: of others' weights not 1."""
    meta = group.drawn[0].stats.get("meta")
    began = meta.get("began_with") if isinstance(meta, dict) else None
    first = began.get("first_task") if isinstance(began, dict) else None
    return first if isinstance(first, int) and first > 0 else 1


def forgetting_curves(group: Group) -> Picture | None:
    """How the forgetting of each task grows as others are trained, mean over the runs."""
    if group.cumul or group.tasks < 2:
        return None
    lost = 100 * np.mean([metrics.forgetting_curves(run.accs) for run in group.drawn], axis=0)
    if np.isnan(lost).all():
        return None
    figure = Figure(figsize=(drawing.WIDTH, 3.1))
    ax = figure.subplots()
    tasks = group.tasks
    norm = drawing.places(tasks - 1)
    drawing.bar_of_tasks(figure, ax, norm, "tested on task")
    for j in range(tasks - 1):
        line = np.concatenate([[0.0], lost[j + 1 :, j]])
        marker = "." if tasks <= drawing.MARKED else ""
        ax.plot(range(j + 1, tasks + 1), line, color=TASKS(norm(j + 1)), marker=marker, lw=1.4)
    ax.set(xlabel=drawing.AFTER, ylabel="forgetting (points)")
    drawing.whole_tasks(ax)
    last = lost[-1, :-1]
    least, most = (
        "unknown" if np.isnan(last).all() else f"{of(last):.1f}" for of in (np.nanmin, np.nanmax)
    )
    title = f"Forgetting, task by task: {group.label}"
    alt = (
        f"Line chart of the forgetting of each task as later ones are trained, {group.label}."
        f" At the end from {least} to {most} points."
    )
    return Picture(drawing.FORGETTING, f"forgetting_{drawing.file_part(group)}", title, alt, figure)


def mean_matrix(group: Group) -> np.ndarray:
    """The accuracy matrix (fractions), mean over the runs that came to their end."""
    return np.mean([run.accs for run in group.drawn], axis=0)


_OVERALL = (averages, *_LINES, *changes.OVERALL)
_EACH = (
    *anytime.EACH,
    accuracy_matrix,
    confusion,
    forgetting_curves,
    winner_overlap,
    *changes.EACH,
)
