"""Print the tables of docs/methods.md: methods by scenario, from result files.

    python -m docs.comparison results

Run it in the project's folder. Mean accuracy (%) after the last task, with its 95 % interval where
there are several seeds, beside the figure that the section expects. Runs with other values than
their sections' have tables of their own.
"""

from __future__ import annotations

import sys
from collections import defaultdict

from exps import config
from exps.messages import all_of
from utils.report.statistics import estimate
from utils.report.wording import MAIN, value_text
from utils.results.groups import Group, differences, grouped
from utils.results.metrics import METRICS
from utils.results.runs import read_runs

SCENARIOS = ("Task", "Domain", "Class")
Groups = dict[str, Group]  # by section


def complete(folders: list[str]) -> dict[str, Groups]:
    """The groups of complete runs, by what they have other values of than their sections. Exits
    with a message where a file cannot be read, or where two groups would be one cell."""
    runs, problems = read_runs(folders)
    if problems:
        sys.exit("\n".join(problems))
    found: dict[str, Groups] = defaultdict(dict)
    for group in grouped(run for run in runs if run.complete and run.status == "complete"):
        values, keys = group.config, group.runs[0].meta.get("changed", ())
        changed = ", ".join(f"{key} = {values[key]}" for key in keys if key in values)
        other = found[changed].setdefault(group.name, group)
        if other is not group:
            apart = all_of([*differences([other, group])])
            sys.exit(
                f"{group.name} has results that differ in {apart}: keep one kind in these folders"
            )
    return dict(sorted(found.items()))


def measured(group: Group) -> str:
    """Mean accuracy after the last task, with its interval and the number of seeds where there are
    several."""
    its = estimate(group.values(MAIN))
    mean, *spread = value_text(METRICS[MAIN], its.mean, its.half).split(" ± ")
    return f"**{mean}**" + "".join(f" ± {half} ({its.n})" for half in spread)


def cell(name: str, names: list[str], found: Groups) -> str:
    """What was measured, of how many seeds, and what is expected; of a section that there is."""
    if name not in names:
        return "–"
    expected = config.load(name)[0].expected_acc
    beside = "–" if expected is None else f"{expected:g}"
    if name not in found:
        return f"not run / {beside}"
    return f"{measured(found[name])} / {beside}"


def table(bench: str, found: Groups, *, whole: bool) -> str:
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
    for changed, found in complete(folders).items():
        for bench in ("Split", "Perm"):
            if any(name.startswith(bench) for name in found):
                title = f"{changed or 'as the sections are'}:"
                print(f"{title}\n\n{table(bench, found, whole=not changed)}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["results"])
