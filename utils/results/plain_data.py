"""What a result may hold: plain Python and numpy numbers, so that any notebook can load it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

MAX_DEPTH = 64  # containers in containers
MAX_VALUES = 4_000_000  # values in all, each counted as often as it is reached
# The kinds and sizes of numbers that are the same on every machine (longdouble is not).
NUMBERS = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)

_LEAVES = frozenset({type(None), bool, int, float, str, bytes})


class NotPlainError(Exception):
    """A value that no result may hold; `str()` names the place, e.g. `['accs'][3]: ...`."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.place = ""

    def __str__(self) -> str:
        place = self.place if len(self.place) <= 100 else self.place[:100] + "..."
        return f"{place}: {self.args[0]}" if place else str(self.args[0])


class StandIn:
    """What a reader holds instead of an object of this kind, until the whole is known."""

    kind: str

    def plain(self) -> Any:
        """The data it stands for, of plain values and other stand-ins; raises NotPlainError."""
        raise NotPlainError(f"{self.kind} is not plain Python or numpy data")


def plain(value: Any) -> Any:
    """The same data in new containers, checked to be plain and with stand-ins replaced.

    Plain are None, bool, int, float, str, bytes, numpy numbers and arrays of them, and lists,
    tuples and dicts of plain values, with text or whole numbers of up to 64 bits as keys (for
    those, unlike tuples, nobody can prepare a million keys with the same hash). Exact types only:
    a subclass does not load without its module. What occurs twice stays one object. Raises
    NotPlainError for everything else, for more than MAX_DEPTH levels (so for a list inside itself)
    and for data that would be more than MAX_VALUES values when written out.
    """
    return _Copier().copy(value, MAX_DEPTH).value


class _Copy(NamedTuple):
    value: Any
    height: int = 0  # levels of containers
    values: int = 1
    source: Any = None  # kept alive: copies are known by the id of their source


class _Copier:
    def __init__(self) -> None:
        self._known: dict[int, _Copy] = {}
        self._made = 0

    def copy(self, value: Any, levels: int) -> _Copy:
        if type(value) in _LEAVES or _is_plain_numpy(value):
            return _Copy(value)
        found = self._known.get(id(value))
        if found is None:
            if levels == 0:
                raise NotPlainError(f"nested more than {MAX_DEPTH} levels deep, or in itself")
            found = self._known[id(value)] = self._copy_new(value, levels)
        if found.height > levels:
            raise NotPlainError(f"nested more than {MAX_DEPTH} levels deep")
        return found

    def _copy_new(self, value: Any, levels: int) -> _Copy:
        if isinstance(value, StandIn):
            return self.copy(value.plain(), levels - 1)._replace(source=value)
        if type(value) is dict:
            for key in value:
                check_key(key)
            parts = self._children(value.items(), levels)
            new: Any = dict(zip(value, (p.value for p in parts), strict=True))
        elif type(value) in (list, tuple):
            parts = self._children(enumerate(value), levels)
            new = type(value)(p.value for p in parts)
        else:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            if isinstance(value, np.ndarray | np.generic):
                kind += f" of dtype {value.dtype}"
            raise NotPlainError(f"{kind} is not plain Python or numpy data")
        height = 1 + max((p.height for p in parts), default=0)
        values = 1 + sum(p.values for p in parts)
        _check_count(values)
        return _Copy(new, height, values, source=value)

    def _children(self, items: Iterable[tuple[Any, Any]], levels: int) -> list[_Copy]:
        parts: list[_Copy] = []
        for key, item in items:
            self._made += 1
            _check_count(self._made)
            try:
                parts.append(self.copy(item, levels - 1))
            except NotPlainError as error:
                error.place = f"[{key!r:.60}]{error.place}"
                raise
        return parts


def _is_plain_numpy(value: Any) -> bool:
    if type(value) is not np.ndarray and not isinstance(value, np.generic):
        return False
    return f"{value.dtype.kind}{value.dtype.itemsize}" in NUMBERS and value.dtype.names is None


def _check_count(values: int) -> None:
    if values > MAX_VALUES:
        raise NotPlainError(f"more than {MAX_VALUES:,} values; use numpy arrays for many numbers")


def check_key(key: Any) -> None:
    """Raises NotPlainError for what cannot be a key of plain data (see `plain`)."""
    if type(key) is str or (type(key) in (int, bool) and -(2**63) <= key < 2**63):
        return
    kind = type(key).__name__
    raise NotPlainError(f"a dict key of type {kind}: use text or a 64-bit whole number")
