"""Lines for those who tail a file: what they say, and that none is doubled or lost."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.live.csv_file import CsvFile, check, columns, file_of
from utils.training.listener import LiveError, Moment, TaskTested

from .conftest import moments_of

NAMES = columns(["hidden"], 2)


def written(path: Path, run: str, past: list[Moment], then: list[Moment]) -> CsvFile:
    file = CsvFile(path, run, NAMES)
    file.begin(past, None)
    file.write()
    for moment in then:
        file.add(moment)
        file.write()
    return file


def rows(path: Path, run: str = "") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if run in ("", row["run"])]


def untimed(path: Path, run: str = "") -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in rows(path, run)]


def test_what_the_lines_say(tmp_path: Path, moments: Callable) -> None:
    path = tmp_path / "a.csv"
    written(path, "R", [], moments(2, 2))
    assert path.read_text().splitlines()[0] == (
        "run,what,task,epoch,time,loss,train_acc,perc_on_avg,entropy_hidden,mean_acc,acc_1,acc_2"
    )
    lines = [list(row.values()) for row in untimed(path)]
    assert lines == [
        ["R", "epoch", "1", "1", "1", "0.5", "4", "1.5", "", "", ""],
        ["R", "epoch", "1", "2", "0.5", "0.5", "4", "1.5", "", "", ""],
        ["R", "test", "1", "2", "", "", "", "", "0.06", "0.01", "0.11"],
        ["R", "epoch", "2", "1", "0.333333", "0.5", "4", "1.5", "", "", ""],
        ["R", "epoch", "2", "2", "0.25", "0.5", "4", "1.5", "", "", ""],
        ["R", "test", "2", "2", "", "", "", "", "0.07", "0.02", "0.12"],
    ]


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path, moments: Callable) -> None:
    path = tmp_path / "a.csv"
    file = written(path, "R", [], [])
    for i, moment in enumerate(moments(2, 2)):
        assert len(rows(path)) == i
        file.add(moment)
        file.write()


def test_what_was_not_tested_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    tested = TaskTested(1, 1, 1, np.array([[0.5, np.nan], [np.nan, np.nan]]))
    written(path, "R", [], [tested])
    assert (rows(path)[0]["mean_acc"], rows(path)[0]["acc_2"]) == ("0.5", "")


@given(st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_a_resumed_run_has_the_lines_of_one_that_was_not(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int, others: bool
) -> None:
    """Whatever was written after the checkpoint, and whoever else writes there."""
    folder = tmp_path_factory.mktemp("csv")
    everything = moments_of(2, 2)
    whole = written(folder / "whole.csv", "R", [], everything).path
    path = folder / "a.csv"
    checkpoint = min(first, second)
    written(path, "R", [], everything[:first])
    kept = path.read_bytes().splitlines()[: 1 + checkpoint]
    if others:
        written(path, "Other", [], everything[:3])
    with path.open("ab") as file:
        file.write(b"R,epoch,2")  # killed in the middle of a line
    written(path, "R", everything[:checkpoint], everything[checkpoint:])
    assert untimed(path, "R") == untimed(whole)
    assert set(kept) <= set(path.read_bytes().splitlines()), "lines before it stay as they were"
    assert untimed(path, "Other") == [
        row | {"run": "Other"} for row in untimed(whole)[: 3 * others]
    ]


def test_the_file_of_a_run_that_began_without_it_has_all_lines(
    tmp_path: Path, moments: Callable
) -> None:
    written(tmp_path / "whole.csv", "R", [], moments(2, 2))
    written(tmp_path / "late.csv", "R", moments(2, 2)[:4], moments(2, 2)[4:])
    assert untimed(tmp_path / "late.csv") == untimed(tmp_path / "whole.csv")


def test_runs_one_after_another_share_a_file(tmp_path: Path, moments: Callable) -> None:
    path = tmp_path / "a.csv"
    written(path, "R", [], moments(2, 1))
    before = path.read_bytes()
    written(path, "S", [], moments(2, 1))
    assert path.read_bytes().startswith(before)
    assert [row["run"] for row in rows(path)] == ["R"] * 4 + ["S"] * 4


def test_a_file_that_vanishes_is_written_anew(tmp_path: Path, moments: Callable) -> None:
    path = tmp_path / "folder" / "a.csv"
    *before, last = moments(2, 2)
    file = written(path, "R", [], before)
    shutil.rmtree(path.parent)
    file.add(last)
    with pytest.raises(FileNotFoundError, match="vanished"):
        file.write()
    file.write()
    written(tmp_path / "whole.csv", "R", [], moments(2, 2))
    assert untimed(path) == untimed(tmp_path / "whole.csv")


def test_lines_that_could_not_be_written_follow(
    tmp_path: Path, moments: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    file = written(path, "R", [], [])

    def full(path: Path, data: bytes) -> None:
        raise OSError("full")

    monkeypatch.setattr("utils.live.csv_file.append", full)
    for moment in moments(2, 2):
        file.add(moment)
        with pytest.raises(OSError, match="full"):
            file.write()
    monkeypatch.undo()
    file.write()
    file.write()
    written(tmp_path / "whole.csv", "R", [], moments(2, 2))
    assert untimed(path) == untimed(tmp_path / "whole.csv")


def test_a_file_or_a_folder(tmp_path: Path) -> None:
    assert file_of(str(tmp_path / "a.csv"), "R") == tmp_path / "a.csv"
    assert file_of(str(tmp_path), "R") == tmp_path / "R.csv"
    assert file_of(f"{tmp_path}/new/", "R") == tmp_path / "new" / "R.csv"


def test_what_lines_can_be_added_to(tmp_path: Path, moments: Callable) -> None:
    for wanted in (str(tmp_path / "a.csv"), str(tmp_path), f"{tmp_path}/new/"):
        check(wanted, NAMES)
    assert not (tmp_path / "a.csv").exists()
    path = tmp_path / "a.csv"
    written(path, "R", [], moments(2, 2))
    check(str(path), NAMES)
    (tmp_path / "empty.csv").touch()
    check(str(tmp_path / "empty.csv"), NAMES)


@pytest.mark.parametrize(
    ("content", "why"), [("my notes", "other columns: my notes"), ("run,what\n", "other columns")]
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(LiveError, match=why) as raised:
        check(str(path), NAMES)
    assert len(str(raised.value).splitlines()) == 3
    assert path.read_text() == content


def test_what_no_lines_can_be_added_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wanted in (str(tmp_path / "file" / "a.csv"), f"{tmp_path}/file/new/"):
        with pytest.raises(LiveError, match="cannot be written"):
            check(wanted, NAMES)
    if Path("/dev/null").exists():
        with pytest.raises(LiveError, match="not an ordinary file"):
            check("/dev/null", NAMES)
