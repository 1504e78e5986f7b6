"""Which sections a section has its values from: `like = OtherSection`, and [DEFAULT] for all."""

from __future__ import annotations

from exps.experiment import ABOUT, LIKE
from exps.messages import ConfigError, did_you_mean, shown
from exps.reader import Entry, Sections


def places(name: str, file: Sections) -> list[list[Entry]]:
    """What each of these sections sets for this one, the one that counts most, itself, last.

    Raises ConfigError for a section that there is not, and for a circle.
    """
    line = dict.fromkeys([name])
    while (parent := _parent(name, file)) is not None:
        if parent in line:
            raise _circle([*line], parent, file)
        line[parent] = None
        name = parent
    *inherited, own = [
        [entry for entry in file[section].values() if entry.key != LIKE]
        for section in reversed(line)
    ]
    return [*([e for e in entries if e.key not in ABOUT] for entries in inherited), own]


def _parent(name: str, file: Sections) -> str | None:
    """The section that one starts from; None where that is the definition of the keys."""
    entry = file[name].get(LIKE)
    if entry is None:
        return "DEFAULT" if name != "DEFAULT" and "DEFAULT" in file else None
    if name == "DEFAULT":
        raise ConfigError(f"{entry.written}: every section starts from [DEFAULT], and it from none")
    if entry.text not in file:
        guess = did_you_mean(entry.text, file)
        raise ConfigError(
            f"{entry.written}: there is no section [{shown(entry.text)}]{guess} "
            "(--list shows them all)"
        )
    return entry.text


def _circle(line: list[str], again: str, file: Sections) -> ConfigError:
    """The error about sections that start from each other, the same one for all of them."""
    circle = line[line.index(again) :]
    first = circle.index(next(name for name in file if name in circle))
    names = [*circle[first:], *circle[: first + 1]]
    said = shown(" like ".join(map(shown, names)), limit=400)
    return ConfigError(f"{file[names[0]][LIKE].written}: goes round in a circle: {said}")
