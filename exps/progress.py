"""How far work is that takes long, for whoever shows it: nobody, until `utils.system.talk` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
bars: list[Callable[..., Any]] = []  # what makes a bar, of a name and a total


@contextmanager
def watched(items: Sequence[T], what: str) -> Iterator[Iterator[T]]:
    """The items one after the other, and bars of how many have been taken."""
    shown = [make(what, total=len(items)) for make in bars]

    def taken() -> Iterator[T]:
        for item in items:
            yield item
            for bar in shown:
                bar.advance()

    try:
        yield taken()
    finally:
        for bar in shown:
            bar.close()
