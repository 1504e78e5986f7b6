"""Pictures of accuracies while tasks are trained (`eval_every`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from utils.report import drawing
from utils.report.canvas import Axes, Figure
from utils.report.style import FAINT, TASKS, Picture
from utils.results.curve import Curve, read_curve
from utils.results.groups import Group


def mean_curve(group: Group) -> tuple[Curve, int] | None:
    """The mean over those runs of a group that were tested at the same steps of the same tasks, the
    most of them, and how many these are; None where none was tested."""
    same: dict[object, list[Curve]] = {}
    for run in group.drawn:
        if curve := read_curve(run.stats, run.accs):
            same.setdefault((curve.tasks.tobytes(), curve.steps.tobytes()), []).append(curve)
    if not same:
        return None
    most = max(same.values(), key=len)
    return replace(most[0], accs=np.mean([one.accs for one in most], axis=0)), len(most)


def while_trained(group: Group) -> Picture | None:
    """The accuracy on every task over the steps of the run, mean over the runs."""
    found = mean_curve(group)
    if found is None or np.isnan(found[0].accs).all():
        return None
    curve, count = found
    figure = Figure(figsize=(drawing.WIDTH, 3.1))
    ax = figure.subplots()
    tasks = curve.accs.shape[1]
    norm = drawing.places(tasks)
    for task in range(tasks):
        _draw_task(ax, curve, task, TASKS(norm(task + 1)))
    for end in curve.steps[curve.ends][:-1]:
        ax.axvline(end, color=FAINT, linewidth=1, linestyle=(0, (4, 2)), zorder=0.5)
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="training steps (dashed: a new task)", ylabel="accuracy (%)")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlim(0, curve.steps[-1])
    if tasks > 1:
        drawing.bar_of_tasks(figure, ax, norm, "tested on task")
    title = f"Accuracy while tasks are trained: {group.label}"
    if count < len(group.drawn):
        title += f" (the {count} of {len(group.drawn)} runs that were tested at the same steps)"
    alt = (
        f"Line chart of the accuracy on every task over {curve.steps[-1]:,} training steps,"
        f" {group.label}: {len(curve.steps):,} tests. {_said(curve)}"
    )
    return Picture(drawing.WITHIN, f"anytime_{drawing.file_part(group)}", title, alt, figure)


def _draw_task(ax: Axes, curve: Curve, task: int, colour: object) -> None:
    """From where it is trained; what was tested before is thin."""
    begun = curve.together | (curve.tasks >= task)
    line = 100 * curve.accs[:, task]
    # A line begins where the one before it ended.
    first = int(np.argmax(begun))
    ax.plot(curve.steps[: first + 1], line[: first + 1], color=colour, lw=0.6, alpha=0.5)
    ax.plot(curve.steps[first:], line[first:], color=colour, lw=1.4)


def _said(curve: Curve) -> str:
    last = 100 * curve.accs[-1]
    if np.isnan(last).any():
        return "The end was not reached."
    return f"At the end from {last.min():.1f} to {last.max():.1f} %."


EACH = (while_trained,)
