"""The pictures of a report. Axes say what was trained and what was tested."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from utils import metrics
from utils.report.answers import MAIN
from utils.report.groups import Group
from utils.report.runs import Run
from utils.report.statistics import bands, estimate
from utils.report.style import (
    BETWEEN,
    DASHES,
    FAINT,
    MAPS,
    MARKERS,
    SERIES,
    Picture,
    readable_on,
    style,
)
from utils.report.wording import shortened

# What pictures belong under, in the order of a page.
OVERALL, MATRICES = "Accuracy, forgetting and activity", "Accuracy matrices"
FORGETTING, OVERLAP = "Forgetting, task by task", "Winner overlap"

WIDTH = 4.3  # inches: about as wide as a phone, so that letters can be read there
_LINE = 52  # characters of a group's label that fit on a line, of which it may have two
_SHADED = 6  # groups above which their bands are fainter
_MARKED = 25  # points of a line up to which each has a marker
_NUMBERED = 10  # tasks up to which a heat map has numbers in it


@dataclass(frozen=True)
class Curve:
    """A group's line: points, their mean, and half of the interval where there is one."""

    group: Group
    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray


def pictures(groups: Sequence[Group]) -> list[Picture]:
    """Every picture that there are data for, those of all groups first."""
    with style():
        overall = [draw(groups) for draw in _OVERALL]
        each = [draw(group) for group in groups for draw in _EACH]
    return [picture for picture in (*overall, *each) if picture is not None]


def averages(groups: Sequence[Group]) -> Picture | None:
    """The average accuracy of every group, with its interval, and of every run."""
    groups = [group for group in groups if estimate(group.values(MAIN)).n]
    if len(groups) < 2:
        return None
    lines = max(_short(group).count("\n") + 1 for group in groups)
    figure = Figure(figsize=(WIDTH, 0.9 + (0.3 + 0.14 * lines) * len(groups)))
    ax = figure.subplots()
    said = []
    for y, group in enumerate(groups):
        values = 100 * group.values(MAIN)
        found = estimate(values)
        look: dict[str, Any] = {"color": _colour(group), "marker": _marker(group)}
        half = None if np.isnan(found.half) else found.half
        ax.errorbar(found.mean, y, xerr=half, **look, capsize=4, markersize=7)
        ax.plot(values, np.full(len(values), y + 0.2), ".", color=_colour(group), alpha=0.6)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "bottom", "size": 8}
        ax.annotate(_short(group), (0, y - 0.15), **place)
        said.append(f"{group.label} {found.mean:.1f} %")
    ax.set(xlabel="average accuracy after the last task (%)", yticks=[])
    ax.set_ylim(len(groups) - 0.5, -0.85)
    ax.spines["left"].set_visible(False)
    title = "Average accuracy (point and bar: mean and 95 % interval; dots: runs)"
    return Picture(OVERALL, "average_accuracy", title, f"{title}: {'; '.join(said)}.", figure)


def accuracy_seen(groups: Sequence[Group]) -> Picture | None:
    """Mean accuracy over the tasks trained so far, after each of them."""
    return _lines(
        groups,
        "accuracy_seen",
        "Mean accuracy on the tasks trained so far",
        "after training on task",
        "accuracy on tasks so far (%)",
        lambda run: 100 * metrics.accuracy_seen(run.accs),
        floor=None,
    )


def accuracy_all(groups: Sequence[Group]) -> Picture | None:
    """Mean accuracy over all tasks, where those to come are tested too."""

    def all_tasks(run: Run) -> np.ndarray | None:
        return 100 * np.mean(run.accs, axis=1) if run.accs.shape[1] > 1 else None

    return _lines(
        groups,
        "accuracy_all",
        "Mean accuracy on all tasks, those still to come included",
        "after training on task",
        "accuracy on all tasks (%)",
        all_tasks,
    )


def forgetting_by_task(groups: Sequence[Group]) -> Picture | None:
    """How much of each task is forgotten at the end."""

    def lost(run: Run) -> np.ndarray | None:
        one_by_one = not run.cumul and len(run.accs) > 1
        return 100 * metrics.forgetting_curves(run.accs)[-1, :-1] if one_by_one else None

    return _lines(
        groups,
        "forgetting_by_task",
        "Forgetting of each task at the end: best earlier accuracy minus last",
        "tested on task",
        "forgetting at the end (points)",
        lost,
        floor=None,
    )


def active_units(groups: Sequence[Group]) -> Picture | None:
    """How many inputs of the classifier are on in training, epoch by epoch."""

    def active(run: Run) -> np.ndarray | None:
        found = metrics.numbers(run.stats, "perc_on_avg", 1)
        return found if found is not None and found.any() else None

    return _lines(
        groups,
        "active_units",
        "Active units in training, after dropout",
        "training epoch, over all tasks",
        "inputs of the classifier on (%)",
        active,
        logarithmic=True,
    )


def entropy(groups: Sequence[Group]) -> Picture | None:
    """How evenly the units win, epoch by epoch."""

    def share(run: Run) -> np.ndarray | None:
        curve = metrics.entropies(run.stats)
        return None if curve is None else 100 * curve

    return _lines(
        groups,
        "entropy",
        "Entropy of the duty cycles of all k-winner layers",
        "training epoch, over all tasks",
        "entropy (% of its maximum)",
        share,
        floor=None,
    )


def accuracy_matrix(group: Group) -> Picture | None:
    """The accuracy on every task after every task, mean over the runs."""
    accs = 100 * mean_matrix(group)
    alt = (
        f"Heat map of accuracy, {group.label}: rows are tasks trained, columns tasks tested."
        f" {_ends(accs)}"
    )
    figure = _heat_map(accs, "tested on task", _trained_label(group), "accuracy (%)")
    name = f"accuracy_matrix_{_slug(group)}"
    return Picture(MATRICES, name, f"Accuracy matrix: {group.label}", alt, figure)


def winner_overlap(group: Group) -> Picture | None:
    """How much every two tasks use the same units, mean over the runs."""
    found = [usage for run in group.drawn if (usage := metrics.usage(run.stats)) is not None]
    if not found or len({len(usage) for usage in found}) > 1 or len(found[0]) < 2:
        return None
    overlap = 100 * np.mean([metrics.winner_overlaps(usage) for usage in found], axis=0)
    labels = "units on while training on task", "and while training on task", "overlap (%)"
    figure = _heat_map(overlap, *labels)
    between = overlap[np.triu_indices(len(overlap), 1)]
    alt = (
        f"Heat map of the overlap of active units of every two tasks, {group.label}: from"
        f" {np.nanmin(between):.0f} to {np.nanmax(between):.0f} %."
    )
    name = f"winner_overlap_{_slug(group)}"
    return Picture(OVERLAP, name, f"Winner overlap: {group.label}", alt, figure)


def forgetting_curves(group: Group) -> Picture | None:
    """How the forgetting of each task grows as others are trained, mean over the runs."""
    if group.cumul or group.tasks < 2:
        return None
    lost = 100 * np.mean([metrics.forgetting_curves(run.accs) for run in group.drawn], axis=0)
    if np.isnan(lost).all():
        return None
    figure = Figure(figsize=(WIDTH, 3.1))
    ax = figure.subplots()
    tasks = group.tasks
    colours = LinearSegmentedColormap.from_list("tasks", BETWEEN)
    norm = Normalize(1, max(2, tasks - 1))
    for j in range(tasks - 1):
        line = np.concatenate([[0.0], lost[j + 1 :, j]])
        marker = "." if tasks <= _MARKED else ""
        ax.plot(range(j + 1, tasks + 1), line, color=colours(norm(j + 1)), marker=marker, lw=1.4)
    ax.set(xlabel="after training on task", ylabel="forgetting (points)")
    ax.set_xlim(left=max(0.5, ax.get_xlim()[0]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=ax, label="tested on task", pad=0.02)
    bar.locator = MaxNLocator(integer=True, nbins=6)
    bar.update_ticks()
    last = lost[-1, :-1]
    alt = (
        f"Line chart of the forgetting of each task as later ones are trained, {group.label}."
        f" At the end from {_number(last, np.nanmin)} to {_number(last, np.nanmax)} points."
    )
    title = f"Forgetting, task by task: {group.label}"
    return Picture(FORGETTING, f"forgetting_{_slug(group)}", title, alt, figure)


def mean_matrix(group: Group) -> np.ndarray:
    """The accuracy matrix (fractions), mean over the runs that came to their end."""
    return np.mean([run.accs for run in group.drawn], axis=0)


_OVERALL: tuple[Callable[[Sequence[Group]], Picture | None], ...] = (
    averages, accuracy_seen, accuracy_all, forgetting_by_task, active_units, entropy,
)  # fmt: skip
_EACH: tuple[Callable[[Group], Picture | None], ...] = (
    accuracy_matrix, forgetting_curves, winner_overlap,
)  # fmt: skip


def _lines(
    groups: Sequence[Group],
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    values: Callable[[Run], np.ndarray | None],
    floor: float | None = 0,
    logarithmic: bool = False,
) -> Picture | None:
    """A line for every group that has values, with its band; None where none has."""
    curves = [curve for group in groups if (curve := _curve(group, values)) is not None]
    if not curves:
        return None
    lines = sum(_short(curve.group).count("\n") + 1 for curve in curves)
    figure = Figure(figsize=(WIDTH, 2.8 + 0.17 * lines))
    ax = figure.subplots()
    for curve in curves:
        _draw(ax, curve, shade=0.18 if len(curves) <= _SHADED else 0.07)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlim(left=max(0.5, ax.get_xlim()[0]))
    means = np.concatenate([curve.mean for curve in curves])
    positive = means[means > 0]
    if logarithmic and len(positive) and positive.max() > 20 * positive.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif floor is not None:
        ax.set_ylim(bottom=floor)
    handles = [Line2D([], [], **_look(c.group), linewidth=1.8) for c in curves]
    # Empty at first: a legend would leave out names that begin with an underscore.
    empty = [" " + "\n" * _short(curve.group).count("\n") for curve in curves]
    legend = figure.legend(handles, empty, loc="outside lower left", fontsize=8)
    for text, curve in zip(legend.get_texts(), curves, strict=True):
        text.set_text(_short(curve.group))
    said = "; ".join(f"{c.group.label} {_last(c.mean)}" for c in curves)
    alt = f"Line chart: {title}; {y_label}, {x_label}. At the end: {said}."
    return Picture(OVERALL, name, title, alt, figure)


def _curve(group: Group, values: Callable[[Run], np.ndarray | None]) -> Curve | None:
    found = [v for run in group.drawn if (v := values(run)) is not None and np.isfinite(v).any()]
    if not found:
        return None
    longest = max(map(len, found))
    mean, half = bands([np.pad(v, (0, longest - len(v)), constant_values=np.nan) for v in found])
    return Curve(group, np.arange(1, longest + 1), mean, half)


def _draw(ax: Axes, curve: Curve, shade: float) -> None:
    look = _look(curve.group)
    if curve.group.cumul and len(curve.x) == 1:  # one training on all tasks: the level to reach
        ax.axhline(curve.mean[0], color=look["color"], linestyle=look["linestyle"])
        return
    if len(curve.x) > _MARKED:
        look["marker"] = ""
    ax.plot(curve.x, curve.mean, **look)
    low, high = curve.mean - curve.half, curve.mean + curve.half
    ax.fill_between(curve.x, low, high, color=look["color"], alpha=shade, linewidth=0)


def _heat_map(values: np.ndarray, x_label: str, y_label: str, bar_label: str) -> Figure:
    """Percentages as colours, and as numbers where there is room."""
    rows, columns = values.shape
    figure = Figure(figsize=(WIDTH, 1.6 if rows == 1 else 3.6))
    ax = figure.subplots()
    image = ax.imshow(
        values, cmap=MAPS, vmin=0, vmax=100, aspect="auto", interpolation="none",
        extent=(0.5, columns + 0.5, rows + 0.5, 0.5),
    )  # fmt: skip
    ax.grid(False)
    ax.set(xlabel=x_label, ylabel=y_label)
    for axis, count in ((ax.xaxis, columns), (ax.yaxis, rows)):
        ticks = min(count, _NUMBERED)
        axis.set_major_locator(MaxNLocator(integer=True, nbins=ticks, min_n_ticks=1))
    if rows == 1:
        ax.set_yticks([])
    if max(rows, columns) <= _NUMBERED:
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                look: dict[str, Any] = {"ha": "center", "va": "center", "size": 8}
                colour = readable_on(image.to_rgba(value))
                ax.text(j + 1, i + 1, f"{value:.0f}", color=colour, **look)
    bar = figure.colorbar(image, ax=ax, label=bar_label, pad=0.02)
    bar.outline.set_edgecolor(FAINT)  # type: ignore[operator]
    return figure


def _look(group: Group) -> dict[str, Any]:
    dashes = DASHES[(group.number - 1) // len(SERIES) % len(DASHES)]
    return {"color": _colour(group), "marker": _marker(group), "linestyle": dashes}


def _colour(group: Group) -> str:
    return SERIES[(group.number - 1) % len(SERIES)]


def _marker(group: Group) -> str:
    return MARKERS[(group.number - 1) % len(MARKERS)]


def _short(group: Group) -> str:
    """The group's label on one or two lines."""
    whole = shortened(group.label, 2 * _LINE - 10)
    return "\n".join(textwrap.wrap(whole, _LINE, break_on_hyphens=False)[:2])


def _slug(group: Group) -> str:
    """A part of a file name that tells the group: its number, and its section's name."""
    return f"{group.number}_" + re.sub(r"[^A-Za-z0-9+-]+", "_", group.name)[:40].strip("_")


def _trained_label(group: Group) -> str:
    return "trained on all tasks" if group.cumul else "after training on task"


def _ends(accs: np.ndarray) -> str:
    """The last row in words."""
    last = accs[-1]
    if np.isnan(last).all():
        return "The last task was not reached."
    return f"After the last task from {np.nanmin(last):.0f} to {np.nanmax(last):.0f} %."


def _last(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return f"{known[-1]:.3g}"


def _number(values: np.ndarray, of: Callable[[np.ndarray], Any]) -> str:
    return "unknown" if np.isnan(values).all() else f"{of(values):.1f}"
