"""What many runs show."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from utils.many import display
from utils.many.display import Display, described, summary, table
from utils.many.order import Order, Outcome
from utils.many.pace import Far
from utils.many.states import State
from utils.runs.folder import span
from utils.runs.identity import Wanted


def order(number: int) -> Order:
    words, folder = ("--name", "A"), Path("nowhere")
    return Order(
        number,
        f"A seed {number}",
        "A",
        Wanted(str(number), "c", "d"),
        str(number),
        "cpu",
        words,
        b"",
        folder,
        folder,
    )


def test_lengths_of_time() -> None:
    assert [span(s) for s in (0.04, 59, 90, 7200, 86400 * 1.5)] == [
        "0.0 s",
        "59.0 s",
        "1.5 min",
        "2.0 h",
        "1.5 d",
    ]


def test_the_bar_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has ended has no checkpoint any more, some time before its end is known."""
    found = {("0", "d"): Far(0.9, 90.0), ("1", "d"): Far(0.4, 40.0)}
    monkeypatch.setattr(display, "progress", lambda folder: found)
    monkeypatch.setattr(display, "REFRESH", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    states = {0: State("unfinished", far=Far(0.5, 50.0)), 1: State("new")}
    two = [order(0), order(1)]
    with closing(Display(two, states, total=3, quiet=False)) as shown:
        assert shown.done == 1.5
        shown.look()
        assert shown.bar.bar.n == pytest.approx(2.3)
        found.clear()
        shown.look()
        assert shown.bar.bar.n == pytest.approx(2.3)
        shown.ended_with(Outcome(0, "failed", reason="x\ny"))
        assert shown.bar.bar.n == pytest.approx(2.4)


def test_a_line_and_a_summary() -> None:
    ended = [
        ("A", Outcome(0, "failed", Path("a.pkl"), "what\n  why: b", Path("a.log"), killed=2)),
        ("B", Outcome(1, "skipped", Path("b.pkl"))),
        ("C", Outcome(2, "left to another process", reason="running on x")),
    ]
    assert described(ended[0][1]) == "failed: what; its process was killed 2 time(s)"
    assert summary(ended, Path("many.log")).splitlines() == [
        "3 runs: 1 skipped, 1 left to another process, 1 failed",
        "  skipped: B: b.pkl",
        "  left to another process: C: running on x",
        "  failed: A",
        "    what",
        "    why: b",
        "    result so far: a.pkl",
        "    log: a.log",
        "log: many.log",
    ]


def test_a_table_before() -> None:
    states = [State("new"), State("done", Path("a.pkl")), State("diverged", Path("b.pkl"))]
    assert table(["A", "BB", "C"], states).splitlines() == [
        "3 runs: 1 to do, 1 done already, 1 diverged before",
        "  new         A",
        "  done        BB  a.pkl",
        "  diverged    C   b.pkl",
    ]
