"""Print the tables of docs/methods.md: methods by scenario, from result files.

    python -m docs.comparison results

Run it in the project's folder. Mean accuracy (%) after the last task, with its 95 % interval where
there are several seeds, beside the figure that the section expects.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from exps import config
from utils.report.statistics import estimate
from utils.results.files import load_results
from utils.results.metrics import average_accuracy

SCENARIOS = ("Task", "Domain", "Class")


def complete(folders: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What complete runs as their sections are have measured, by section, seed after seed."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.pkl")):
        values, stats = load_results(path)
        if stats["meta"]["status"] == "complete" and not stats["meta"]["changed"]:
            found[values["name"]][values["seed"]] = stats
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}


def accuracies(runs: list[dict[str, Any]]) -> list[float]:
    """Mean accuracies after the last task, percent."""
    return [100 * average_accuracy(stats["accs"]) for stats in runs]


def measured(accs: list[float]) -> str:
    """Their mean, with its interval and their number where there are several."""
    its = estimate(accs)
    spread = f" ± {its.half:.1f} ({len(accs)})" if len(accs) > 1 else ""
    return f"**{its.mean:.1f}**{spread}"


def cell(name: str, names: list[str], found: dict[str, list[float]]) -> str:
    """What was measured, of how many seeds, and what is expected; of a section that there is."""
    if name not in names:
        return "–"
    expected = config.load(name)[0].expected_acc
    beside = "–" if expected is None else f"{expected:g}"
    if name not in found:
        return f"not run / {beside}"
    return f"{measured(found[name])} / {beside}"


def table(bench: str, found: dict[str, list[float]]) -> str:
    """A row for every method, a column for every scenario."""
    names = [name for name in config.sections() if name.startswith(bench)]
    split = [
        (scenario, name.removeprefix(bench + scenario))
        for name in names
        for scenario in SCENARIOS
        if name.startswith(bench + scenario)
    ]
    rows = ["| | task | domain | class |", "| --- | --- | --- | --- |"]
    for method in dict.fromkeys(method for _, method in split):
        cells = [cell(f"{bench}{scenario}{method}", names, found) for scenario in SCENARIOS]
        rows.append(f"| {method or 'nothing'} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(folders: list[str]) -> None:
    """The tables of both benchmarks."""
    found = {name: accuracies(runs) for name, runs in complete(folders).items()}
    for bench in ("Split", "Perm"):
        print(f"{table(bench, found)}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["results"])
