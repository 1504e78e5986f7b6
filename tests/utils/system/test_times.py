"""Times with their zone, and what comes after what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from utils.system.times import UNKNOWN, as_text, instant, instant_or_unknown, now


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the zone of this process, as POSIX writes it."""
    if not hasattr(time, "tzset"):
        pytest.skip("needs a system whose zone a process can set")

    def to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield to
    monkeypatch.undo()
    time.tzset()


def test_a_time_has_its_zone(zone: Callable[[str], None]) -> None:
    zone("JST-9")
    text = as_text(now())
    assert text.endswith("+09:00")
    assert instant(text) == datetime.fromisoformat(text)
    assert as_text(datetime(2026, 11, 22, 11)) == "2026-11-22T11:00:00.000+09:00"


def test_a_later_time_is_later_whatever_the_zone(zone: Callable[[str], None]) -> None:
    zone("JST-9")
    first = as_text(now())
    zone("PST8")
    second = as_text(now())
    assert second < first
    assert instant(first) <= instant(second)


def test_the_hour_that_comes_twice(
    zone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    instants = [1792887300, 1792890900]  # 2:15 in the night in which summer time ends, twice
    texts = [as_text(datetime.fromtimestamp(second)) for second in instants]
    assert [text[11:] for text in texts] == ["02:15:00.000+02:00", "02:15:00.000+01:00"]
    assert [instant(text).timestamp() for text in texts] == instants


def test_a_time_without_zone_is_of_here(zone: Callable[[str], None]) -> None:
    zone("UTC+3")
    assert instant("2026-11-22T11:00:00") == instant("2026-11-22T14:00:00+00:00")


@pytest.mark.parametrize("text", ["", "yesterday", "None", None, 7, "0001-01-01"])
def test_what_is_no_time_is_before_all_others(zone: Callable[[str], None], text: object) -> None:
    zone("UTC-12")  # where the year 1 began in the year 0
    assert instant_or_unknown(text) == UNKNOWN
