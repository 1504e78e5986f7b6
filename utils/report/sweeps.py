"""Groups that differ in one key of numbers: the lines of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exps.experiment import definition
from utils.results.groups import MISSING, Group, differences
from utils.results.runs import as_if


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
