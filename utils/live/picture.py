"""The accuracy matrix as a picture."""

from __future__ import annotations

import numpy as np

from utils.report.canvas import Figure, FigureCanvasAgg, drawn_with

NUMBERED = 15  # tasks: with more of them, the numbers would not fit into their squares


@drawn_with({})
def accuracy_picture(accs: np.ndarray) -> np.ndarray:
    """The accuracies [trained, tested], 0 to 1, as a heat map: uint8 [height, width, 3].

    What was not tested (NaN) is grey; the colours are those of 0 to 100 % in every picture.
    """
    trained, tested = accs.shape
    side = min(max(0.5 * max(trained, tested), 3.0), 7.0)  # inches
    figure = Figure(figsize=(side + 1.6, side * min(1, (trained + 2) / tested) + 1), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    picture = axes.imshow(100 * accs, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    figure.colorbar(picture, ax=axes, label="accuracy (%)")
    axes.set_xlabel("tested on task")
    axes.set_ylabel("after training on task" if trained > 1 else "all tasks together")
    axes.set_xticks(*_ticks(tested))
    axes.set_yticks(*(_ticks(trained) if trained > 1 else ([], [])))
    if max(trained, tested) <= NUMBERED:
        for (i, j), acc in np.ndenumerate(accs):
            if not np.isnan(acc):
                colour = "black" if acc > 0.6 else "white"
                axes.text(j, i, f"{100 * acc:.0f}", ha="center", va="center", color=colour)
    figure.tight_layout()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _ticks(count: int) -> tuple[list[int], list[str]]:
    """At most some twenty places, and the tasks' numbers there, from 1."""
    places = list(range(0, count, -(-count // 20)))
    return places, [str(i + 1) for i in places]
