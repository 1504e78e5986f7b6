"""Print the table of docs/wins.md: sparse networks beside dense ones, from result files.

    python -m docs.wins results

Run it in the project's folder. Mean accuracy (%) after the last task, with its 95 % interval where
there are several seeds.
"""

from __future__ import annotations

import sys
from statistics import median
from typing import NamedTuple

from docs.comparison import complete, measured
from utils.results.groups import Group

IN_ORDER = "class_order = sorted"  # as the sparse networks have it, not drawn


class Row(NamedTuple):
    """A benchmark in a scenario: the sections of the sparse and the dense network, the least
    accuracy that is wanted, percent, and what is changed in the dense section."""

    name: str
    sparse: str
    dense: str
    wanted: float
    changed: str = ""


ROWS = (
    Row("Permuted MNIST, 10 tasks, domain", "Contexts", "ContextsDense", 98.0),
    Row("the same, 25 tasks", "Contexts25", "ContextsDense25", 97.8),
    Row("the same, 50 tasks", "Contexts50", "", 97.5),
    Row("the same, 100 tasks", "Contexts100", "", 97.0),
    Row("Split MNIST, task", "SplitMNISTTask", "SplitTask", 99.6, IN_ORDER),
    Row("the same, trained by gradient", "SplitContextsTask", "SplitTask", 99.6, IN_ORDER),
    Row("Split MNIST, domain", "SplitMNISTDomain", "SplitDomain", 97.5, IN_ORDER),
    Row("the same, trained by gradient", "SplitContextsDomain", "SplitDomain", 97.5, IN_ORDER),
    Row("Split MNIST, class", "SplitMNISTClass", "SplitClass", 98.0, IN_ORDER),
    Row("the same, trained by gradient", "SplitContextsClass", "SplitClass", 98.0, IN_ORDER),
    Row("iCIFAR10, task", "iCIFAR10Sparse", "iCIFAR10Dense", 95.0),
    Row("the same, trained by gradient", "SparseConv", "iCIFAR10Dense", 92.3),
    Row("Split CIFAR-10, class", "CIFAR10Class", "", 78.0),
    Row("Split CIFAR-100, 10 tasks, class", "CIFAR100Class", "", 45.0),
)


def accuracy(group: Group | None) -> str:
    """What was measured, if anything was."""
    return measured(group) if group else "not run"


def costs(group: Group | None) -> str:
    """Parameters of the network that count and numbers held beside it, of the first run, and
    seconds, the median."""
    if group is None:
        return "–"
    first = group.runs[0].stats
    network = sum(layer["active_params"] for layer in first["costs"])
    beside = sum(cost["parameters"] for cost in first.get("method_costs", {}).values())
    return f"{network:,} + {beside:,}, {median(r.stats['elapsed'] for r in group.runs):.0f} s"


def main(folders: list[str]) -> None:
    """The table."""
    found = complete(folders)
    print("| | wanted | sparse | dense | sparse: numbers, time | dense: numbers, time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        sparse = found.get("", {}).get(row.sparse)
        dense = found.get(row.changed, {}).get(row.dense)
        cells = (accuracy(sparse), accuracy(dense), costs(sparse), costs(dense))
        print(f"| {row.name} | {row.wanted:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["results"])
