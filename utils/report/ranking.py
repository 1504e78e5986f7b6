"""Three groups and more on the same tasks: all against the best, and how a key of numbers acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

from exps.messages import all_of
from utils.metrics import METRICS
from utils.report.groups import Group
from utils.report.statistics import (
    LEVEL,
    NAN,
    Comparison,
    Trend,
    compare,
    estimate,
    holm,
    trend,
)
from utils.report.sweeps import Line
from utils.report.wording import effect_text, estimate_text, p_text, range_text, tasks_text

MAIN = "average_accuracy"  # what the answer is given in
Lead = tuple[Group, Comparison]  # a group behind the best, and the best minus it
_NAMED = 3  # groups of a kind that are named in a sentence


@dataclass(frozen=True)
class Ranking:
    """Groups on the same tasks.

    known: those with a run that came to its end, the best first; leads: the best minus each of the
    others, its p for all pairs of them, as the best was chosen by the same numbers; line and trend:
    where they are one line of a sweep.
    """

    groups: Sequence[Group]
    known: list[Group]
    leads: list[Comparison]
    line: Line | None = None
    trend: Trend | None = None

    @property
    def pairs(self) -> int:
        """How many pairs there are of them."""
        return len(self.known) * (len(self.known) - 1) // 2

    @property
    def title(self) -> str:
        """What is ranked."""
        what = f"values of {self.line.key}, {self.line.label}" if self.line else "groups"
        return f"{len(self.groups)} {what}"

    def name(self, group: Group) -> str:
        """One of them: by its value in a sweep."""
        return self.line.text(group) if self.line else group.label

    @property
    def sentences(self) -> list[str]:
        """Which is best, how sure that is, and in a sweep what the key does."""
        if not self.known:
            names = _some([self.name(group) for group in self.groups])
            return [f"No run of {names} came to its end, so there is no average accuracy."]
        best = self.known[0]
        if self.line:
            of = f"{self.line.label}: of {len(self.groups)} values of {self.line.key}"
        else:
            of = f"Of {len(self.groups)} groups on the same {tasks_text(best.tasks)}"
        highest = f"{self.name(best)} has the highest average accuracy, {_mean(best)}"
        return [f"{of}, {highest}.{self._leads()}", *self._trend()]

    def _leads(self) -> str:
        behind = list(zip(self.known[1:], self.leads, strict=True))
        if not behind:
            return " No other has a run that came to its end."
        if all(lead.difference.n < 2 for lead in self.leads):
            follows = f"{self.name(self.known[1])} follows with {_mean(self.known[1])}"
            return f" {follows}. Single runs cannot tell that from chance."
        sure = [(g, lead) for g, lead in behind if lead.certain and lead.difference.mean > 0]
        others = [pair for pair in behind if pair not in sure]
        said = []
        if sure:
            by = range_text([lead.difference.mean for _, lead in sure])
            said.append(f"is better than {self._names(sure)} by {by}{_p(sure, max, '≤')}")
        if others:
            said.append(f"may be ahead of {self._names(others)} by chance{_p(others, min, '≥')}")
        corrected = f"; p after Holm for {self.pairs} pairs" if self.pairs > 1 else ""
        return f" It {', and '.join(said)}{corrected}."

    def _names(self, some: Sequence[Lead]) -> str:
        return _some([self.name(group) for group, _ in some])

    def _trend(self) -> list[str]:
        if self.line is None or self.trend is None or isnan(self.trend.p):
            return []
        ends = (self.line.text(self.line.groups[i]) for i in (0, -1))
        span = f"with {self.line.key} from {' to '.join(ends)}"
        rho, p = effect_text(self.trend.rho), p_text(self.trend.p, "=")
        certain, way = self.trend.p < 1 - LEVEL, "rises" if self.trend.rho > 0 else "falls"
        does = f"accuracy {way} {span}" if certain else f"no steady rise or fall {span} is sure"
        return [f"{self.line.label}: {does} (Spearman's rho = {rho}, p {p}, permutation)."]


def rank(groups: Sequence[Group], line: Line | None = None) -> Ranking:
    """All of the groups against the best of them; line: the one that they are, if they are one."""
    means = {group: estimate(group.values(MAIN)) for group in groups}
    known = sorted((g for g in groups if means[g].n), key=lambda group: -means[group].mean)
    by_seed = [group.by_seed(MAIN) for group in known]
    pairs = len(known) * (len(known) - 1) // 2
    leads = holm([compare(by_seed[0], other) for other in by_seed[1:]], pairs)
    return Ranking(groups, known, leads, line, _trend_of(line) if line else None)


def _trend_of(line: Line) -> Trend:
    """Within the runs of each seed where enough seeds are in all groups, else over all runs."""
    points = [(x, g.by_seed(MAIN)) for x, g in zip(line.values, line.groups, strict=True)]
    points = [(x, runs) for x, runs in points if runs]
    if len(points) < 3:
        return Trend(NAN, NAN)
    shared = [seed for seed in points[0][1] if all(seed in runs for _, runs in points)]
    if len(shared) >= max(1, min(len(runs) for _, runs in points) / 2):
        return trend([([x for x, _ in points], [runs[s] for _, runs in points]) for s in shared])
    flat = [(x, y) for x, runs in points for y in runs.values()]
    return trend([([x for x, _ in flat], [y for _, y in flat])])


def _mean(group: Group) -> str:
    found = estimate(group.values(MAIN))
    return f"{estimate_text(METRICS[MAIN], found)} % (n = {found.n})"


def _p(some: Sequence[Lead], of: Callable[[list[float]], float], sign: str) -> str:
    """What holds for p of all of them, where they have any: ' (p ≤ 0.012)'."""
    texts = {lead.p_adjusted: p_text(lead.p_adjusted) for _, lead in some}
    texts = {p: text for p, text in texts.items() if not isnan(p)}
    if not texts:
        return ""
    return f" (p {p_text(of([*texts]), sign if len({*texts.values()}) > 1 else '=')})"


def _some(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more there are."""
    if len(names) > _NAMED:
        return all_of([*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"])
    return all_of(names)
