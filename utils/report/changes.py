"""The pictures of networks that change with the tasks: synapses, units and contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from utils.report import drawing
from utils.report.canvas import Axes, Figure, MaxNLocator, Patch, to_hex
from utils.report.style import FAINT, PAPER, TASKS, Picture
from utils.results import metrics
from utils.results.arrays import AGES, Synapses, shares, synapses
from utils.results.groups import Group
from utils.results.runs import Run


def _found(run: Run) -> np.ndarray | None:
    right = shares(run.stats, "context_right", run.accs)
    return None if right is None else metrics.accuracy_seen(right)


def _of_synapses(
    values: Callable[[Synapses], np.ndarray | None],
) -> Callable[[Run], np.ndarray | None]:
    """The same of a run, None where it has no record of synapses."""

    def of(run: Run) -> np.ndarray | None:
        some = synapses(run.stats, run.accs.shape[1])
        return None if some is None else values(some)

    return of


_Lines = partial(drawing.LineChart, heading=drawing.CHANGES)
OVERALL = (
    _Lines(
        "context_found",
        "Pictures whose context was found, of the tasks trained so far",
        "context found (%)",
        _found,
    ),
    _Lines(
        "synapses_in_use",
        "Synapses in use, of all weights; with contexts, those of some context",
        "weights in use (%)",
        _of_synapses(Synapses.density),
    ),
    _Lines(
        "units_recruited",
        "Units recruited: in use by a task, and by none before it",
        "units recruited",
        _of_synapses(lambda some: some.fresh.sum(1)),
        drawing.WHILE,
        scale=1,
    ),
    _Lines(
        "frozen_synapses",
        "Frozen synapses, which stay as they are: old ones, or those of other contexts",
        "frozen synapses (%)",
        _of_synapses(lambda some: some.mean(some.frozen) if some.frozen.any() else None),
        drawing.WHILE,
    ),
    _Lines(
        "learning_rates",
        "Mean learning rate of all synapses in use",
        "learning rate (% of lr)",
        _of_synapses(lambda some: some.mean(some.rates) if some.rates.min() < 1 else None),
        drawing.WHILE,
    ),
)


def synapses_by_birth(group: Group) -> Picture | None:
    """The synapses of each layer after each task, by the task in which they came."""
    some = _same_form(group)
    if not any(one.by_birth[..., 1:].any() for one in some):
        return None
    births = np.mean([one.by_birth for one in some], axis=0)
    layers = _layers(births, some[0].fresh.shape[1])
    tasks = births.shape[2] - 1
    step = -(-tasks // drawing.MARKED)  # tasks of a colour
    starts = np.arange(0, tasks, step)
    norm = drawing.places(tasks)
    colours = [FAINT, *(_shade(norm(min(n + 1 + (step - 1) / 2, tasks))) for n in starts)]
    drawn = {
        name: np.hstack([counts[:, :1], np.add.reduceat(counts[:, 1:], starts, 1)])
        for name, counts in layers.items()
    }
    figure, axes = _panels(drawn, colours, drawing.AFTER)
    drawing.bar_of_tasks(figure, axes, norm, "born in task")
    if births[..., 0].any():
        initial = Patch(color=FAINT, label="there before the first task")
        figure.legend(handles=[initial], loc="outside lower left", fontsize=8)
    title = f"Synapses by the task of their birth: {group.label}"
    said = _said(layers, "of which {:,.0f} were born in the last task", len(births))
    name = f"synapses_by_birth_{drawing.file_part(group)}"
    alt = f"Stacked chart. {title}; {drawing.AFTER}. {said}"
    return Picture(drawing.CHANGES, name, title, alt, figure)


def synapses_by_age(group: Group) -> Picture | None:
    """The synapses of each layer in each task, by how much earlier tasks needed them."""
    some = _same_form(group)
    found = [one.by_age for one in some if one.by_age is not None]
    if not found:
        return None
    layers = _layers(np.mean(found, axis=0), some[0].fresh.shape[1])
    colours = [FAINT, *map(_shade, np.linspace(0, 1, len(AGES) - 1))]
    figure, _ = _panels(layers, colours, drawing.WHILE)
    patches = [Patch(color=c, label=age) for age, c in zip(AGES, colours, strict=True)]
    look: dict[str, Any] = {"loc": "outside lower left", "fontsize": 8, "title_fontsize": 8}
    figure.legend(handles=patches, title="age", ncols=3, **look)
    title = f"Synapses by age, from 0 (no earlier task needed them) to 1: {group.label}"
    said = _said(layers, "of which {:,.0f} have age 1", -1)
    name = f"synapses_by_age_{drawing.file_part(group)}"
    alt = f"Stacked chart. {title}; {drawing.WHILE}. {said}"
    return Picture(drawing.CHANGES, name, title, alt, figure)


EACH = (synapses_by_birth, synapses_by_age)


def _same_form(group: Group) -> list[Synapses]:
    """What its runs have recorded of synapses: of those that came as far as any."""
    every = [synapses(run.stats, run.accs.shape[1]) for run in group.drawn]
    found = [some for some in every if some is not None]
    forms = [(some.by_birth.shape, some.fresh.shape, some.by_age is None) for some in found]
    return [some for some, form in zip(found, forms, strict=True) if form == max(forms)]


def _layers(counts: np.ndarray, hidden: int) -> dict[str, np.ndarray]:
    """Counts [tasks, layers, kinds] by layer, [tasks, kinds]; all classifiers are one."""
    named = {f"hidden layer {i + 1}": counts[:, i] for i in range(hidden)}
    return named | {"classifier": counts[:, hidden:].sum(1)}


def _panels(
    layers: dict[str, np.ndarray], colours: Sequence[str], x_label: str
) -> tuple[Figure, list[Axes]]:
    """A panel for each layer, one below the other."""
    figure = Figure(figsize=(drawing.WIDTH, 0.9 + 1.35 * len(layers)))
    axes = list(figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0])
    for ax, (name, counts) in zip(axes, layers.items(), strict=True):
        ax.set_title(name, loc="left")
        ax.set_axisbelow(True)
        ax.set(ylabel="synapses")
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        _stack(ax, counts, colours)
    axes[-1].set(xlabel=x_label)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure, axes


def _stack(ax: Axes, counts: np.ndarray, colours: Sequence[str]) -> None:
    """Counts [tasks, kinds] on each other: as bars, or where there are many tasks as areas."""
    x = np.arange(1, len(counts) + 1)
    ax.set_ylim(0, 1.05 * counts.sum(1).max())
    if len(x) > drawing.MARKED:
        ax.stackplot(x, counts.T, colors=colours, linewidth=0)
        ax.set_xlim(1, len(x))
        return
    bottom = np.cumsum(counts, 1) - counts
    for height, low, colour in zip(counts.T, bottom.T, colours, strict=True):
        if height.any():
            ax.bar(x, height, 0.8, low, color=colour, edgecolor=PAPER, linewidth=0.4)
    ax.set_xlim(0.4, len(x) + 0.6)


def _shade(place: float) -> str:
    """A colour from the first task or age (0) to the last (1)."""
    return to_hex(TASKS(place))


def _said(layers: dict[str, np.ndarray], what: str, kind: int) -> str:
    """How many synapses each layer has at the end, and of one kind."""
    parts = [
        f"{name} {counts[-1].sum():,.0f}, {what.format(counts[-1, kind])}"
        for name, counts in layers.items()
    ]
    return f"At the end: {'; '.join(parts)}."
