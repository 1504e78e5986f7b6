"""Work that other threads do while this one imports torch, which takes a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_begun: dict[tuple[Any, ...], Future[Any]] = {}
_keeping = False


@contextmanager
def working() -> Iterator[None]:
    """What is begun inside, and not asked for, is forgotten after it."""
    try:
        yield
    finally:
        _begun.clear()


def keep() -> None:
    """Keep the last result from now on: this process asks for the same again and again."""
    global _keeping
    _keeping = True


def begin(function: Callable[..., T], *args: Any) -> None:
    """Call it in a thread of its own; `result` has what comes of it."""
    _begun[(function, *args)] = ThreadPoolExecutor(1).submit(function, *args)


def result(function: Callable[..., T], *args: Any) -> T:
    """What the function returns or raises, begun or not; what was begun counts once."""
    future: Future[T] | None = _begun.pop((function, *args), None)
    if future is None:
        future = Future()
        future.set_result(function(*args))
    found = future.result()
    if _keeping:
        _begun.clear()
        _begun[(function, *args)] = future
    return found
