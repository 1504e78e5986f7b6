"""Three groups and more on the same tasks: all against the best, and how a key of numbers acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from exps.experiment import definition
from exps.messages import all_of
from utils.report.statistics import LEVEL, Comparison, common, compare, estimate, holm, trend
from utils.report.wording import MAIN, counted, effect_text, estimate_text, p_text, range_text
from utils.results.groups import MISSING, Group, differences
from utils.results.metrics import METRICS
from utils.results.runs import as_if

_NAMED = 3  # groups of a kind that are named in a sentence


@dataclass(frozen=True)
class Line:
    """Groups that differ in this key alone, by its value from the lowest to the highest.

    label: what tells it from the other lines of the key.
    """

    key: str
    groups: tuple[Group, ...]
    label: str

    @property
    def values(self) -> list[float]:
        """The key in each of the groups."""
        return [float(group.config[self.key]) for group in self.groups]


@dataclass(frozen=True)
class Ranking:
    """Groups on the same tasks, the best first.

    leads: the best minus each of the others, its p for all `pairs` of them, as the best was chosen
    by the same numbers; seeds: those that all have, where there are enough, by which they are in
    order; line: the line of a sweep that they are.
    """

    groups: list[Group]
    leads: list[Comparison]
    pairs: int
    seeds: list[object]
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
        tasks, count = counted(self.groups[0].tasks, "task"), len(self.groups)
        of = f"Of {count} groups on the same {tasks}"
        if self.line:
            of = f"{self.line.label}: of {count} values of {self.line.key}"
        best = f"{of}, {self.name(self.groups[0])} has the highest average accuracy"
        best += " over the seeds that all have" if self.partly else ""
        best += f", {self._mean(self.groups[0])}. {self._leads()}."
        return [best, _trend(self.line)] if self.line else [best]

    @property
    def partly(self) -> bool:
        """Whether the order goes by some of the runs alone."""
        return any(0 < len(self.seeds) < len(group.by_seed(MAIN)) for group in self.groups)

    def _leads(self) -> str:
        if all(lead.difference.n < 2 for lead in self.leads):
            same = self.leads[0].difference.mean == 0
            follows = f"{self.name(self.groups[1])} {'has the same' if same else 'follows'}"
            follows += f" with {self._mean(self.groups[1])}"
            return f"{follows}; single runs cannot tell that from chance"
        others = [*zip(map(self.name, self.groups[1:]), self.leads, strict=True)]
        better = [one for one in others if one[1].certain and one[1].difference.mean > 0]
        worse = [one for one in others if one[1].certain and one[1].difference.mean < 0]
        equal = [one for one in others if one[1].difference.mean == 0]
        rest = [one for one in others if one not in [*better, *worse, *equal]]
        said = [f"is better than {_some(better)} by {_apart(better)}"] if better else []
        # Where seeds are missing: of all that it has the best is ahead, but not of these.
        both = "on the seeds that both have"
        said += [f"is worse than {_some(worse)} by {_apart(worse)} {both}"] if worse else []
        said += [f"is equal to {_some(equal)}"] if equal else []
        said += [f"may be ahead of {_some(rest)} by chance"] if rest else []
        corrected = f", after Holm for {self.pairs} pairs" if self.pairs > 1 else ""
        tested = f" (at 5 %{corrected})" if len(equal) < len(others) else ""
        return f"It {', and '.join(said)}{tested}"

    def _mean(self, group: Group) -> str:
        by = group.by_seed(MAIN)
        found = estimate([by[seed] for seed in self.seeds or by])
        return f"{estimate_text(METRICS[MAIN], found)} % (n = {found.n})"


def lines(groups: Sequence[Group], keys: Iterable[str] | None = None) -> list[Line]:
    """The lines of two points or more among groups: of these keys, else of all that are numbers and
    differ. A point where other keys do nothing (`boost_strength = 0`) is in every line it fits.
    """
    return [line for key in keys or differences(groups) for line in _of_key(key, groups)]


def _of_key(key: str, groups: Sequence[Group]) -> list[Line]:
    numbers = {g: value for g in groups if (value := _number(key, g.config.get(key))) is not None}
    found: list[list[Group]] = []
    # Those first in which most keys count: they tell lines apart.
    for group in sorted(numbers, key=lambda group: -len(group.config)):
        fitting = [line for line in found if _fits(group, line, key)]
        found += [] if fitting else [[]]
        for line in fitting or found[-1:]:
            line.append(group)
    long = sorted((s for s in found if len(s) > 1), key=lambda s: min(g.number for g in s))
    texts = [line[0].name for line in long]
    if len({*texts}) < len(texts):
        apart = differences([line[0] for line in long])
        apart = {k: v for k, v in apart.items() if k != key and MISSING not in v} or apart
        for i, name in enumerate(texts):
            texts[i] = f"{name} ({', '.join(f'{k} = {v[i]}' for k, v in apart.items())})"
    ordered = [tuple(sorted(line, key=numbers.__getitem__)) for line in long]
    return [Line(key, line, text) for line, text in zip(ordered, texts, strict=True)]


def _number(key: str, text: str | None) -> float | None:
    """The value of a key, where it counts and is a number."""
    known = definition(key)
    try:
        value = None if text is None else known.kind.parse(text) if known else float(text)
    except ValueError:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fits(group: Group, line: Sequence[Group], key: str) -> bool:
    """Whether the group differs from the first of the line in the key alone, and from all in it."""
    first, mine, its = line[0], line[0].config, group.config
    if group.name != first.name or its[key] in (member.config[key] for member in line):
        return False
    if any(mine[name] != its[name] for name in mine.keys() & its.keys() if name != key):
        return False
    values = [_number(key, config[key]) for config in (mine, its)]
    runs = (first.runs[0], group.runs[0])
    alike = [{str(as_if(run, **{key: value})) for run in runs} for value in values]
    return mine.keys() == its.keys() or any(len(texts) == 1 for texts in alike)


def rank(groups: Sequence[Group], line: Line | None = None) -> Ranking:
    """All of two groups or more that have an average accuracy against the best of them."""
    accs = {group: group.by_seed(MAIN) for group in groups}
    seeds = common([*accs.values()])
    means = {g: np.mean([by[seed] for seed in seeds or by]) for g, by in accs.items()}
    ordered = sorted(groups, key=means.__getitem__, reverse=True)
    best, *others = (accs[group] for group in ordered)
    pairs = len(ordered) * (len(ordered) - 1) // 2
    leads = holm([compare(best, other) for other in others], pairs)
    return Ranking(ordered, leads, pairs, seeds, line)


def _trend(line: Line) -> str:
    """Whether accuracy rises or falls along the line: within the runs of each seed where enough
    seeds are in all groups, else over all runs.
    """
    points = [group.by_seed(MAIN) for group in line.groups]
    shared = common(points, least=1)
    blocks = [(line.values, [point[seed] for point in points]) for seed in shared]
    if not shared:
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


def _some(found: Sequence[tuple[str, Comparison]]) -> str:
    """Their names, or the first of them and how many more there are."""
    names = [name for name, _ in found]
    more = [f"{len(names) - _NAMED + 1} more"] if len(names) > _NAMED else []
    return all_of([*names[: _NAMED - len(more)], *more])


def _apart(found: Sequence[tuple[str, Comparison]]) -> str:
    return range_text([abs(lead.difference.mean) for _, lead in found])
