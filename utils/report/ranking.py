"""Three groups and more on the same tasks: all against the best, and how a key of numbers acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exps.messages import all_of
from utils.report.statistics import LEVEL, Comparison, compare, estimate, holm, trend
from utils.report.sweeps import Line
from utils.report.wording import effect_text, estimate_text, p_text, range_text, tasks_text
from utils.results.groups import Group
from utils.results.metrics import METRICS

MAIN = "average_accuracy"  # what the answer is given in
_NAMED = 3  # groups of a kind that are named in a sentence


@dataclass(frozen=True)
class Ranking:
    """Groups on the same tasks, the best first.

    leads: the best minus each of the others, its p for all `pairs` of them, as the best was chosen
    by the same numbers; line: the line of a sweep that they are.
    """

    groups: list[Group]
    leads: list[Comparison]
    pairs: int
    line: Line | None = None

    @property
    def title(self) -> str:
        """What is ranked."""
        what = f"values of {self.line.key}, {self.line.label}" if self.line else "groups"
        return f"{len(self.groups)} {what}"

    def name(self, group: Group) -> str:
        """One of them: by its value in a sweep."""
        return group.config[self.line.key] if self.line else group.label

    @property
    def sentences(self) -> list[str]:
        """Which is best, how sure that is, and in a sweep what the key does."""
        tasks, count = tasks_text(self.groups[0].tasks), len(self.groups)
        of = f"Of {count} groups on the same {tasks}"
        if self.line:
            of = f"{self.line.label}: of {count} values of {self.line.key}"
        best = f"{of}, {self.name(self.groups[0])} has the highest average accuracy"
        best += f", {_mean(self.groups[0])}. {self._leads()}."
        return [best, _trend(self.line)] if self.line else [best]

    def _leads(self) -> str:
        behind = list(zip(self.groups[1:], self.leads, strict=True))
        if all(lead.difference.n < 2 for lead in self.leads):
            follows = f"{self.name(self.groups[1])} follows with {_mean(self.groups[1])}"
            return f"{follows}; single runs cannot tell that from chance"
        sure = [(g, lead) for g, lead in behind if lead.certain and lead.difference.mean > 0]
        worse = [self.name(group) for group, _ in sure]
        others = [self.name(group) for group in self.groups[1:] if self.name(group) not in worse]
        by = range_text([lead.difference.mean for _, lead in sure]) if sure else ""
        said = [f"is better than {_some(worse)} by {by}"] if sure else []
        said += [f"may be ahead of {_some(others)} by chance"] if others else []
        corrected = f", after Holm for {self.pairs} pairs" if self.pairs > 1 else ""
        return f"It {', and '.join(said)} (at 5 %{corrected})"


def rank(groups: Sequence[Group], line: Line | None = None) -> Ranking:
    """All of two groups or more that have an average accuracy against the best of them."""
    ordered = sorted(groups, key=lambda group: -estimate(group.values(MAIN)).mean)
    best, *others = (group.by_seed(MAIN) for group in ordered)
    pairs = len(ordered) * (len(ordered) - 1) // 2
    return Ranking(ordered, holm([compare(best, other) for other in others], pairs), pairs, line)


def _trend(line: Line) -> str:
    """Whether accuracy rises or falls along the line: within the runs of each seed where enough
    seeds are in all groups, else over all runs.
    """
    points = [group.by_seed(MAIN) for group in line.groups]
    shared = [seed for seed in points[0] if all(seed in point for point in points)]
    blocks = [(line.values, [point[seed] for point in points]) for seed in shared]
    if len(shared) < max(1, min(map(len, points)) / 2):
        flat = [
            (x, y) for x, point in zip(line.values, points, strict=True) for y in point.values()
        ]
        blocks = [([x for x, _ in flat], [y for _, y in flat])]
    rho, p = trend(blocks)
    ends = " to ".join(line.groups[i].config[line.key] for i in (0, -1))
    span, way = f"with {line.key} from {ends}", "rises" if rho > 0 else "falls"
    does = f"accuracy {way} {span}" if p < 1 - LEVEL else f"no steady rise or fall {span} is sure"
    how = f"Spearman's rho = {effect_text(rho)}, p {p_text(p, '=')}, permutation"
    return f"{line.label}: {does} ({how})."


def _mean(group: Group) -> str:
    found = estimate(group.values(MAIN))
    return f"{estimate_text(METRICS[MAIN], found)} % (n = {found.n})"


def _some(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more there are."""
    more = [f"{len(names) - _NAMED + 1} more"] if len(names) > _NAMED else []
    return all_of([*names[: _NAMED - len(more)], *more])
