"""Groups that differ in one key of numbers: the lines of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from exps.experiment import KEYS
from utils.report.groups import MISSING, Group, differences
from utils.report.runs import as_if


@dataclass(frozen=True)
class Line:
    """Groups that differ in this key alone, by its value from the lowest to the highest.

    label: what tells it from the other lines of the key; level: the dense twin, in which the key
    does nothing.
    """

    key: str
    groups: tuple[Group, ...]
    label: str = ""
    level: Group | None = None

    @property
    def values(self) -> list[float]:
        """The key in each of the groups."""
        return [float(self.text(group)) for group in self.groups]

    def text(self, group: Group) -> str:
        """The same of one of them, as it is written."""
        return group.config[self.key]


def lines(groups: Sequence[Group], keys: Iterable[str] | None = None) -> list[Line]:
    """The lines of two points or more among groups: of these keys, else of all that are numbers and
    differ. A point where other keys do nothing (`boost_strength = 0`) is in every line it fits.
    """
    apart = differences(groups)
    return [line for key in (apart if keys is None else keys) for line in _of_key(key, groups)]


def _of_key(key: str, groups: Sequence[Group]) -> list[Line]:
    having = [group for group in groups if _number(key, group) is not None]
    found: list[list[Group]] = []
    # Those first in which most keys count: they tell lines apart.
    for group in sorted(having, key=lambda group: -len(group.config)):
        fitting = [line for line in found if _differ_in(key, line, group)]
        found += [] if fitting else [[]]
        for line in fitting or found[-1:]:
            line.append(group)
    long = [
        Line(key, tuple(sorted(line, key=lambda g: _number(key, g) or 0)))
        for line in found
        if len(line) > 1
    ]
    long.sort(key=lambda line: min(group.number for group in line.groups))
    return [replace(line, label=text) for line, text in zip(long, _labels(long), strict=True)]


def _number(key: str, group: Group) -> float | None:
    """The value of the key, where it is a number that counts in the group."""
    text = group.config.get(key)
    if key not in KEYS or text is None:
        return None
    try:
        value = KEYS[key].kind.parse(text)
    except ValueError:
        return None
    return value if type(value) in (int, float) else None  # type: ignore[return-value]


def _differ_in(key: str, line: Sequence[Group], group: Group) -> bool:
    """Whether the group fits into the line: it differs from its first in the key alone, and from
    all others in it as well.
    """
    first, mine, its = line[0], line[0].config, group.config
    shared = (mine.keys() & its.keys()) - {key}
    if first.name != group.name or any(mine[name] != its[name] for name in shared):
        return False
    if its[key] in (member.config[key] for member in line):
        return False
    if mine.keys() == its.keys():
        return True
    for value in (_number(key, first), _number(key, group)):
        one, other = (as_if(g.runs[0], **{key: value}) for g in (first, group))
        if one is not None and one == other:
            return True
    return False


def _labels(found: Sequence[Line]) -> list[str]:
    """The section of each line, with what differs where several have that name."""
    firsts = [max(line.groups, key=lambda group: len(group.config)) for line in found]
    texts = [group.name for group in firsts]
    for name in {name for name in texts if texts.count(name) > 1}:
        same = [i for i, group in enumerate(firsts) if group.name == name]
        apart = differences([firsts[i] for i in same])
        both = {k: v for k, v in apart.items() if k != found[0].key and MISSING not in v}
        for place, i in enumerate(same):
            said = ", ".join(f"{key} = {values[place]}" for key, values in both.items())
            texts[i] = f"{name} ({said})" if said else f"{name} #{place + 1}"
    return texts
