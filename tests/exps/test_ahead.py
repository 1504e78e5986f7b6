"""Work that is done ahead gives what it would give when it is asked for."""

from __future__ import annotations

import threading

import pytest

from exps import ahead


def fail(text: str) -> None:
    raise ValueError(text)


def test_what_was_begun_counts_once_and_for_its_arguments_alone() -> None:
    calls: list[tuple[int, bool]] = []

    def square(x: int) -> int:
        calls.append((x, threading.current_thread() is threading.main_thread()))
        return x * x

    with ahead.working():
        ahead.begin(square, 3)
        assert [ahead.result(square, x) for x in (2, 3, 3)] == [4, 9, 9]
        assert sorted(calls) == [(2, True), (3, False), (3, True)]
        ahead.begin(fail, "no")
        with pytest.raises(ValueError, match="no"):
            ahead.result(fail, "no")
        ahead.begin(square, 5)
    ahead.result(square, 5)
    assert (5, True) in calls  # what nobody asked for in time is forgotten


def test_who_asks_again_and_again_keeps_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_keeping", False)
    calls: list[int] = []

    def square(x: int) -> int:
        calls.append(x)
        return x * x

    ahead.keep()
    with ahead.working():
        assert [ahead.result(square, x) for x in (2, 2, 3, 3, 2)] == [4, 4, 9, 9, 4]
        with pytest.raises(ValueError, match="no"):
            ahead.result(fail, "no")
        ahead.result(square, 2)
    assert calls == [2, 3, 2]
