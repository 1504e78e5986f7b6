"""Print the tables of docs/methods.md: methods by scenario, from result files.

    python -m docs.comparison results

Run it in the project's folder. Mean accuracy (%) after the last task, with its 95 % interval where
there are several seeds, beside the figure that the section expects. Runs with other values than
their sections' have tables of their own.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from exps import config
from exps.kinds import as_text
from utils.report.statistics import estimate
from utils.results.files import load_results
from utils.results.metrics import average_accuracy

SCENARIOS = ("Task", "Domain", "Class")


Accuracies = dict[str, list[float]]  # percent, by section, seed after seed
Runs = dict[str, list[dict[str, Any]]]  # what was measured, by section, seed after seed


def complete(folders: list[str]) -> dict[str, Runs]:
    """What complete runs have measured, by what they have other values of than their sections."""
    found: dict[str, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.pkl")):
        values, stats = load_results(path)
        if stats["meta"]["status"] == "complete":
            changed = ", ".join(f"{k} = {as_text(values[k])}" for k in stats["meta"]["changed"])
            found[changed][values["name"]][values["seed"]] = stats
    return {
        changed: {name: [runs[seed] for seed in sorted(runs)] for name, runs in its.items()}
        for changed, its in sorted(found.items())
    }


def accuracies(runs: list[dict[str, Any]]) -> list[float]:
    """Mean accuracies after the last task, percent."""
    return [100 * average_accuracy(stats["accs"]) for stats in runs]


def measured(accs: list[float]) -> str:
    """Their mean, with its interval and their number where there are several."""
    its = estimate(accs)
    spread = f" ± {its.half:.1f} ({len(accs)})" if len(accs) > 1 else ""
    return f"**{its.mean:.1f}**{spread}"


def cell(name: str, names: list[str], found: Accuracies) -> str:
    """What was measured, of how many seeds, and what is expected; of a section that there is."""
    if name not in names:
        return "–"
    expected = config.load(name)[0].expected_acc
    beside = "–" if expected is None else f"{expected:g}"
    if name not in found:
        return f"not run / {beside}"
    return f"{measured(found[name])} / {beside}"


def table(bench: str, found: Accuracies, *, whole: bool) -> str:
    """A row for every method, a column for every scenario; of what was run alone, or of all."""
    names = [n for n in config.sections() if n.startswith(bench) and (whole or n in found)]
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
    """The tables of both benchmarks, as the sections are and otherwise."""
    for changed, runs in complete(folders).items():
        found = {name: accuracies(its) for name, its in runs.items()}
        for bench in ("Split", "Perm"):
            if any(name.startswith(bench) for name in found):
                title = f"{changed or 'as the sections are'}:"
                print(f"{title}\n\n{table(bench, found, whole=not changed)}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["results"])
