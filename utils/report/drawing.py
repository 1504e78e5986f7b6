"""What the pictures of a report are drawn with: lines with bands, heat maps, a group's look."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exps.messages import shortened
from utils.report.canvas import Axes, Axis, Figure, Line2D, MaxNLocator, Normalize, ScalarMappable
from utils.report.statistics import bands
from utils.report.style import DASHES, FAINT, MAPS, MARKERS, SERIES, TASKS, Picture, readable_on
from utils.results.groups import Group
from utils.results.runs import Run

# What pictures belong under, in the order of a page.
OVERALL, CHANGES = "Accuracy, forgetting and activity", "Synapses, units and contexts"
WITHIN = "Accuracy while tasks are trained"
MATRICES, FORGETTING, OVERLAP = "Accuracy matrices", "Forgetting, task by task", "Winner overlap"
HEADINGS = (OVERALL, WITHIN, CHANGES, MATRICES, FORGETTING, OVERLAP)

WIDTH = 4.3  # inches: about as wide as a phone, so that letters can be read there
AFTER, WHILE = "after training on task", "while training on task"  # below an axis
MARKED = 25  # points of a line up to which each has a marker
_TICKS = 7  # on a logarithmic axis, at most
_LINE = 52  # characters of a group's label that fit on a line, of which it may have two
_SHADED = 6  # groups above which their bands are fainter
_NUMBERED = 10  # tasks up to which a heat map has numbers in it


@dataclass(frozen=True)
class LineChart:
    """A line with its band for every group of which runs have values, [points]; None for no
    picture where none has.

    name: of its files; scale: what values are multiplied by, for those of shares are in percent;
    floor: where the axis begins, None for wherever the lines do.
    """

    name: str
    title: str
    y_label: str
    values: Callable[[Run], np.ndarray | None]
    x_label: str = AFTER
    scale: int = 100
    floor: float | None = 0
    logarithmic: bool = False
    heading: str = OVERALL

    def __call__(self, groups: Sequence[Group]) -> Picture | None:
        curves = {g: band for g in groups if (band := self._band(g)) is not None}
        if not curves:
            return None
        figure, ax = chart([group.label for group in curves], [look_of(g) for g in curves])
        for group, band in curves.items():
            _draw(ax, group, band, shade=0.18 if len(curves) <= _SHADED else 0.07)
        ax.set(xlabel=self.x_label, ylabel=self.y_label)
        whole_tasks(ax)
        self._set_heights(ax, np.concatenate([mean for _, mean, _ in curves.values()]))
        ends = [(g, mean[~np.isnan(mean)][-1]) for g, (_, mean, _) in curves.items()]
        said = "; ".join(f"{group.label} {end:.3g}" for group, end in ends)
        alt = f"Line chart: {self.title}; {self.y_label}, {self.x_label}. At the end: {said}."
        return Picture(self.heading, self.name, self.title, alt, figure)

    def _band(self, group: Group) -> np.ndarray | None:
        """[low end, mean, high end] at each point, as far as any of its runs goes."""
        values = [self.values(run) for run in group.drawn]
        found = [self.scale * v for v in values if v is not None and np.isfinite(v).any()]
        if not found:
            return None
        mean, half = bands(found)
        return np.stack([mean - half, mean, mean + half])

    def _set_heights(self, ax: Axes, means: np.ndarray) -> None:
        positive = means[means > 0]
        if self.logarithmic and len(positive) and positive.max() > 20 * positive.min():
            ax.set_yscale("log")
            set_ticks(ax.yaxis, log_ticks(*ax.get_ylim()))
        elif self.floor is not None:
            # A line that is nearly level would have no room above it.
            ax.set_ylim(self.floor, max(ax.get_ylim()[1], 1.05 * np.nanmax(means)))


def chart(labels: Sequence[str], looks: Sequence[Mapping[str, Any]]) -> tuple[Figure, Axes]:
    """Room for lines of these looks, with a legend below it."""
    labels = [two_lines(label) for label in labels]
    figure = Figure(figsize=(WIDTH, 2.8 + 0.17 * sum(label.count("\n") + 1 for label in labels)))
    handles = [Line2D([], [], **look, linewidth=1.8) for look in looks]
    # Empty at first: a legend would leave out names that begin with an underscore.
    empty = [" " + "\n" * label.count("\n") for label in labels]
    legend = figure.legend(handles, empty, loc="outside lower left", fontsize=8)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return figure, figure.subplots()


def whole_tasks(ax: Axes) -> None:
    """An x axis of tasks: whole numbers from 1."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlim(left=max(0.5, ax.get_xlim()[0]))


def places(tasks: int) -> Normalize:
    """The place in TASKS of each of so many tasks, from 1."""
    return Normalize(1, max(2, tasks))


def bar_of_tasks(figure: Figure, axes: Any, norm: Normalize, label: str) -> None:
    """A bar beside the axes that tells the colours of tasks."""
    ticks = MaxNLocator(integer=True, nbins=6)
    figure.colorbar(ScalarMappable(norm, TASKS), ax=axes, label=label, pad=0.02, ticks=ticks)


def set_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """These numbers on an axis, and no others."""
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two that are a decade or more apart."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / _TICKS)]


def _draw(ax: Axes, group: Group, band: np.ndarray, shade: float) -> None:
    look, points = look_of(group), band.shape[1]
    if group.cumul and points == 1:  # one training on all tasks: the level to reach
        ax.axhline(band[1, 0], color=look["color"], linestyle=look["linestyle"])
        return
    if points > MARKED:
        look["marker"] = ""
    draw_line(ax, np.arange(1, points + 1), band, look, shade)


def draw_line(
    ax: Axes, x: np.ndarray, band: np.ndarray, look: dict[str, Any], shade: float = 0.18
) -> None:
    """A line in its band: [low end, mean, high end] at each x."""
    ax.plot(x, band[1], **look)
    ax.fill_between(x, band[0], band[2], color=look["color"], alpha=shade, linewidth=0)


def heat_map(
    values: np.ndarray, x_label: str, y_label: str, bar_label: str, *, first: int = 1
) -> Figure:
    """Percentages as colours, and as numbers where there is room. first: the number of the first
    row and column."""
    rows, columns = values.shape
    figure = Figure(figsize=(WIDTH, 1.6 if rows == 1 else 3.6))
    ax = figure.subplots()
    image = ax.imshow(
        values, cmap=MAPS, vmin=0, vmax=100, aspect="auto", interpolation="none",
        extent=(first - 0.5, first + columns - 0.5, first + rows - 0.5, first - 0.5),
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
                ax.text(j + first, i + first, f"{value:.0f}", color=colour, **look)
    bar = figure.colorbar(image, ax=ax, label=bar_label, pad=0.02)
    bar.outline.set_edgecolor(FAINT)  # type: ignore[operator]
    return figure


def look_of(group: Group) -> dict[str, Any]:
    """Colour, marker and dashes of a group's line, the same in every picture."""
    i = group.number - 1
    look = {"color": SERIES[i % len(SERIES)], "marker": MARKERS[i % len(MARKERS)]}
    return look | {"linestyle": DASHES[i // len(SERIES) % len(DASHES)]}


def two_lines(label: str) -> str:
    """A label on one or two lines."""
    whole = shortened(label, 2 * _LINE - 10)
    return "\n".join(textwrap.wrap(whole, _LINE, break_on_hyphens=False)[:2])


def file_part(group: Group) -> str:
    """A part of a file name that tells the group: its number, and its section's name."""
    return f"{group.number}_" + re.sub(r"[^A-Za-z0-9+-]+", "_", group.name)[:40].strip("_")
