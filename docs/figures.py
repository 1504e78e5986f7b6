"""Draw README's first result, and print accuracy matrices as Markdown, from result files.

    python -m docs.figures results/MLP_1LayerSparse_....pkl results/MLP_1Layer_....pkl

Run it in the project's folder. Each result, one to four of them, gives a line, a heat map and a
table. Where the values of 2019 are known for its section, they are drawn as well.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.report.canvas import Axes, ConstrainedLayoutEngine, Figure
from utils.results.files import load_results

PICTURE = Path(__file__).with_name("first_result.png")

# Mean accuracy (%) over all ten tasks after each of them, from the 2019 results (one run each).
CURVES_2019 = {
    "MLP_1Layer": [19.0, 27.5, 35.8, 42.4, 48.4, 54.1, 58.2, 60.8, 62.1, 65.7],
    "MLP_1LayerSparse": [17.2, 26.5, 34.2, 42.7, 50.8, 58.0, 65.8, 73.1, 78.1, 86.6],
    "MLP_2Layers": [19.1, 27.0, 32.8, 36.2, 40.4, 43.4, 48.2, 45.6, 44.2, 48.0],
    "MLP_2LayersSparse": [16.8, 23.7, 31.3, 37.4, 45.6, 45.7, 51.9, 54.9, 58.5, 61.0],
}
# Blue, vermilion and two more of Okabe and Ito's colours, told apart with any colour vision.
STYLES = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")]


class Result(NamedTuple):
    """name: the section's; accs: percent [tasks trained, tasks tested]."""

    name: str
    accs: np.ndarray
    seed: int

    @property
    def means(self) -> np.ndarray:
        """Mean over the tasks tested, after each task."""
        return np.nanmean(self.accs, axis=1)


def read(path: str) -> Result:
    config, stats = load_results(path)
    return Result(config["name"], 100 * stats["accs"], config["seed"])


def markdown(result: Result) -> str:
    """The accuracy matrix, a row per task trained, with the mean last."""
    tested = range(1, result.accs.shape[1] + 1)
    rows = [
        f"| after task | {' | '.join(f'on {j}' for j in tested)} | mean |",
        f"| --- |{' --- |' * len(tested)} --- |",
    ]
    for i, (accs, mean) in enumerate(zip(result.accs, result.means, strict=True), start=1):
        cells = ["–" if np.isnan(a) else f"{a:.1f}" for a in accs]
        rows.append(f"| {i} | {' | '.join(cells)} | **{mean:.1f}** |")
    return "\n".join(rows)


def draw(results: list[Result]) -> Figure:
    """A line per result above, a heat map per result below."""
    # White behind it all, so that it reads the same on a light and on a dark page.
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(10, 9.3), dpi=130, facecolor="white", layout=layout)
    [[top], [bottom]] = figure.subfigures(2, 1, squeeze=False, height_ratios=[0.8, 1])
    _lines(top.subplots(), results)
    [axes] = bottom.subplots(1, len(results), squeeze=False, sharey=True)
    for ax, result in zip(axes, results, strict=True):
        image = _heat_map(ax, result)
    axes[0].set_ylabel("after training on task")
    bottom.colorbar(image, ax=list(axes), label="test accuracy (%)", shrink=0.9, pad=0.02)
    return figure


def _lines(ax: Axes, results: list[Result]) -> None:
    for result, (colour, marker) in zip(results, STYLES, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": marker}
        after = range(1, len(result.means) + 1)
        label = f"{result.name}, seed {result.seed}: {result.means[-1]:.1f} %"
        ax.plot(after, result.means, **look, linewidth=2.2, label=label)
        if before := CURVES_2019.get(result.name):
            label = f"{result.name}, 2019: {before[-1]:.1f} %"
            look |= {"linestyle": (0, (4, 3)), "markerfacecolor": "white", "markersize": 5}
            ax.plot(range(1, len(before) + 1), before, **look, linewidth=1.3, label=label)
    ax.set(
        title="Mean accuracy over all tasks, those still to come included (one run each)",
        xlabel="after training on task",
        ylabel="mean test accuracy (%)",
        ylim=(0, 100),
        xticks=range(1, 1 + max(len(result.means) for result in results)),
    )
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", frameon=False)


def _heat_map(ax: Axes, result: Result) -> Any:
    image = ax.imshow(result.accs, cmap="cividis", vmin=0, vmax=100)
    trained, tested = result.accs.shape
    ax.set(
        title=result.name,
        xlabel="tested on task",
        xticks=range(tested),
        xticklabels=range(1, tested + 1),
        yticks=range(trained),
        yticklabels=range(1, trained + 1),
    )
    for (i, j), value in np.ndenumerate(result.accs):
        if not np.isnan(value):
            colour = "black" if value > 55 else "white"
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
    return image


def main(paths: list[str]) -> None:
    if not 1 <= len(paths) <= len(STYLES):
        sys.exit(f"give 1 to {len(STYLES)} result files:\n{__doc__}")
    results = [read(path) for path in paths]
    draw(results).savefig(PICTURE)
    for result in results:
        print(f"**{result.name}**, accuracy (%), one run, seed {result.seed}\n")
        print(markdown(result), end="\n\n")
    print(f"drawn: {PICTURE}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
