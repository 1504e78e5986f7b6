"""The log beside a result: what was said, with times; and failures in three lines."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest

from exps.config import Experiment
from utils.system.failures import OutOfMemory, is_out_of_memory, memory_explained, unexpected
from utils.system.log import RunLog
from utils.system.talk import LOG, say, warn


def test_what_was_said_is_there_with_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = warnings.showwarning
    with RunLog("info") as log:
        say("before there was a file")
        log.open(tmp_path / "x.log")
        say("not shown", quiet=True)
        warn("careful")
        warnings.warn("from a library", stacklevel=1)
        say("two\nlines")
        LOG.debug("detail")
    say("afterwards")
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+ +|  ", line) for line in lines)
    assert [line[28:] for line in lines] == [
        "before there was a file",
        "not shown",
        "careful",
        "from a library",
        "two",
        "lines",
    ]
    out, err = capsys.readouterr()
    assert out == "before there was a file\ntwo\nlines\nafterwards\n"
    assert err == "warning: careful\nwarning: from a library\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("warning", 2), ("error", 1)])
def test_levels(tmp_path: Path, level: str, count: int) -> None:
    with RunLog(level) as log:
        log.open(tmp_path / "x.log")
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            LOG.log(number, "text")
    assert (tmp_path / "x.log").read_text().count("text") == count


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with RunLog("info") as log:
            log.open(tmp_path / "x.log")
            say(text)
    assert [line[28:] for line in (tmp_path / "x.log").read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_where_no_log_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog("info") as log:
        log.open(tmp_path / "nowhere" / "x.log")
        say("one")
        say("two")
    assert capsys.readouterr().err.count("no log can be written") == 1


def test_a_traceback_is_only_in_the_log(tmp_path: Path) -> None:
    with RunLog("error") as log:
        try:
            raise KeyError("x")
        except KeyError as error:
            text = unexpected(error, log, tmp_path)
        (path,) = tmp_path.iterdir()
        assert str(path) in text
        assert "Traceback" not in text
        assert len(text.splitlines()) == 3
    assert "Traceback (most recent call last)" in path.read_text()


def test_memory() -> None:
    with (
        pytest.raises(OutOfMemory, match=r"mb_size \(now 128\)"),
        memory_explained(Experiment("x")),
    ):
        raise MemoryError
    with pytest.raises(RuntimeError, match="other"), memory_explained(Experiment("x")):
        raise RuntimeError("other")
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(ValueError("out of memory"))
