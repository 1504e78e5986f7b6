"""Bars on a terminal, plain lines elsewhere, nothing at all when quiet."""

from __future__ import annotations

import io
import sys

import pytest

from utils.live.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_run(*, quiet: bool = False) -> None:
    with Progress(2, quiet=quiet) as progress:
        progress.say("headline")
        for task in ("one", "two"):
            progress.begin(f"epoch of {task}", 3, "step")
            for _ in range(3):
                progress.advance()
            progress.detail(f"loss of {task}", on_bars=f"short {task}")
            progress.begin(f"testing {task}", 100, "picture")
            progress.advance(100)
            progress.task_done(f"accuracy of {task}")


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    a_run()
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "headline",
        "loss of one",
        "accuracy of one",
        "loss of two",
        "accuracy of two",
    ]
    assert said.err == ""


def test_nothing_when_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(quiet=True)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    a_run(quiet=True)
    assert (capsys.readouterr().out, terminal.getvalue()) == ("", "")


def test_bars_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    a_run()
    bars = terminal.getvalue()
    assert "tasks:" in bars
    assert "2/2" in bars
    assert "testing two:" in bars
    assert ", short one]" in bars
    assert ", short two]" in bars
    # The lines that stay; details are in the bars.
    said = capsys.readouterr().out.splitlines()
    assert said == ["headline", "accuracy of one", "accuracy of two"]


def test_bars_are_closed_when_a_run_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), Progress(2) as progress:
        progress.begin("epoch", 3, "step")
        raise KeyboardInterrupt
    assert not progress.now.shown
    assert not progress.tasks.shown


def test_lines_are_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are flushed, for a run may take hours and its output go into a file."""

    class Flushed(io.StringIO):
        seen = ""

        def flush(self) -> None:
            self.seen = self.getvalue()

    out = Flushed()
    monkeypatch.setattr(sys, "stdout", out)
    with Progress(1) as progress:
        progress.say("a line")
        assert out.seen == "a line\n"
