"""Folders of unfinished runs: names, order, what is kept, and what is shown of them."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from utils.runs import folder as runs
from utils.runs.folder import (
    Run,
    RunError,
    find,
    next_serial,
    reserve,
    table,
    unfinished,
)
from utils.system.lock import LockedError, holder, take_lock

ROOT = Path(__file__).parents[3]


def begun(folder: Path, name: str, number: int, **facts: object) -> Run:
    run = reserve(folder, name)
    run.write({"serial": number, "progress": "task 1/2", "share": 0.5} | facts, {})
    return run


def test_names_are_given_once(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").touch()
    (tmp_path / "a_2.log").touch()
    assert [reserve(tmp_path, "a").name for _ in range(2)] == ["a_3", "a_4"]


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    run = reserve(tmp_path, "a")
    assert not run.begun()
    names = []
    for i in range(4):
        path, size = run.write({"i": i}, {})
        names.append(path.name)
        assert size == path.stat().st_size
    assert [p.name for p in run.checkpoints()] == names[:1:-1]
    path, facts, tree, faults = run.newest(10_000)
    assert (path.name, facts, tree, faults) == (names[-1], {"i": 3}, {}, [])


def test_what_was_killed_before_its_first_checkpoint_goes_with_the_next(tmp_path: Path) -> None:
    names = "killed", "young", "held", "begun", "damaged"
    others = {name: reserve(tmp_path, name) for name in names}
    (others["killed"].folder / ".1234.tmp").touch()
    others["begun"].write({}, {})
    (others["damaged"].folder / "00000001.ckpt.damaged").touch()
    with others["held"].held():
        (others["killed"].folder / "lock").touch()
        for name in set(others) - {"young"}:
            os.utime(others[name].folder, (0, 0))
        reserve(tmp_path, "done").remove()
        left = {path.name for path in (tmp_path / ".runs").iterdir()}
    assert left == {"young", "held", "begun", "damaged"}


def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    run = begun(tmp_path / "r", "a", 1)
    run.remove()
    assert os.listdir(tmp_path / "r") == []
    run.write({}, {})
    assert len(run.checkpoints()) == 1


def test_the_newest_comes_first_whatever_the_clock_said(tmp_path: Path) -> None:
    first = begun(tmp_path, "x_2030-01-01", next_serial(tmp_path))
    second = begun(tmp_path, "x_2020-01-01", next_serial(tmp_path))
    assert [run.name for run in unfinished(tmp_path)] == [second.name, first.name]
    os.utime(second.checkpoints()[0], (0, 0))
    os.utime(first.checkpoints()[0], (2**33, 2**33))
    assert [run.name for run in unfinished(tmp_path)] == [second.name, first.name]
    shown = table(tmp_path).splitlines()
    assert shown[0].split() == ["run", "progress", "checkpoint", "state"]
    assert "50.0 %, task 1/2" in shown[1]
    assert "just now" in shown[2]


def test_nothing_to_show(tmp_path: Path) -> None:
    assert "no unfinished runs" in table(tmp_path / "nowhere")
    reserve(tmp_path, "not begun")
    assert "no unfinished runs" in table(tmp_path)


@pytest.mark.parametrize(
    "facts", [{"share": "much"}, {"share": None}, {"progress": ["\x1b[2J"]}, {"serial": "x"}]
)
def test_foreign_facts_do_no_harm(tmp_path: Path, facts: dict[str, object]) -> None:
    begun(tmp_path, "a", 1, **facts)
    assert "\x1b" not in table(tmp_path)
    assert next_serial(tmp_path) >= 1


def test_damaged_checkpoints_in_the_list(tmp_path: Path) -> None:
    run = begun(tmp_path, "a", 1)
    run.checkpoints()[0].write_bytes(b"x")
    assert "not a checkpoint" in table(tmp_path)


def test_the_list_needs_no_torch(tmp_path: Path) -> None:
    begun(tmp_path, "a", 1)
    command = [sys.executable, "-X", "importtime", "run_exps.py", "--list-runs"]
    command += ["--results-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "task 1/2" in done.stdout
    assert not any(line.endswith(" torch") for line in done.stderr.splitlines())


def test_a_run_that_there_is_not(tmp_path: Path) -> None:
    for name in ("a", "../a", "..", "a\0", str(tmp_path)):
        with pytest.raises(RunError, match="there is no unfinished run"):
            find(tmp_path, name)


def test_what_is_newer_than_the_sound_one_is_set_aside(tmp_path: Path) -> None:
    run = reserve(tmp_path, "a")
    older, newer = run.write({}, {})[0], run.write({}, {})[0]
    run.set_aside(older)
    assert run.checkpoints() == [older]
    assert newer.with_name(f"{newer.name}.damaged").exists()


# ----------------------------------------------------------------------------------- the lock


def test_held_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with take_lock(path):
        with pytest.raises(LockedError, match=rf"process {os.getpid()}$"):
            take_lock(path)
        assert str(holder(path)).endswith(f"process {os.getpid()}")
    assert holder(path) is None
    with take_lock(path):
        pass


def hold_and_die(path: Path) -> None:
    _lock = take_lock(path)
    os._exit(9)


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=hold_and_die, args=(tmp_path / "lock",)
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert json.loads((tmp_path / "lock").read_bytes())["process"] == process.pid
    with take_lock(tmp_path / "lock"):
        pass


def test_a_run_finished_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before the other process removed it, locked after: nobody else sees this lock."""
    path, real = tmp_path / "lock", os.open

    def late(*arguments: object) -> int:
        handle = real(*arguments)  # type: ignore[arg-type]
        path.unlink()
        return handle

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(LockedError, match="just been finished"):
        take_lock(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"host": 1}', b"\xff", b"9" * 5000, b"[" * 5000]
)
def test_a_damaged_lock_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lock"
    with take_lock(path):
        path.write_bytes(text)
        assert holder(path) == "an unknown host"
    with take_lock(path):
        pass


def test_a_run_in_use(tmp_path: Path) -> None:
    run = begun(tmp_path, "a", 1)
    with run.held(), pytest.raises(RunError, match="is in use"), run.held():
        pass
    assert runs.FOLDER in str(run.folder)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is not refused for it."""
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with take_lock(tmp_path / "lock"):
        pass


# --------------------------------------------------------------- a folder that others have filled


@pytest.fixture
def thesis(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's, which stays as it is; and a folder of theirs, likewise."""
    home = tmp_path / "home"
    (home / "papers").mkdir(parents=True)
    path = home / "papers/thesis.txt"
    path.write_text("my thesis")
    yield path
    assert path.read_text() == "my thesis"
    assert [p.name for p in home.rglob("*")] == ["papers", "thesis.txt"]


PLANTED = ["link", "hard link", "link to nothing", "pipe", "folder"]


def plant(path: Path, thesis: Path, kind: str) -> None:
    """Put something else where a file of the program's is to be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(thesis)
    elif kind == "hard link":
        path.hardlink_to(thesis)
    elif kind == "link to nothing":
        path.symlink_to(thesis.with_name("new.txt"))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", PLANTED)
def test_a_lock_that_is_something_else(tmp_path: Path, thesis: Path, kind: str) -> None:
    run = begun(tmp_path / "r", "a", 1)
    plant(run.folder / "lock", thesis, kind)
    with (
        pytest.raises(RunError, match=r"(?s)run a cannot be locked\n  why: .*lock is "),
        run.held(),
    ):
        pass
    assert table(tmp_path / "r").endswith("stopped")


@pytest.mark.parametrize("part", [".runs", ".runs/a"])
def test_a_folder_of_runs_that_is_a_link(tmp_path: Path, thesis: Path, part: str) -> None:
    run = begun(tmp_path / "r", "a", 1)
    (tmp_path / "r" / part).rename(tmp_path / "moved")
    (tmp_path / "r" / part).symlink_to(tmp_path / "moved")
    before = sorted(p.name for p in (tmp_path / "moved").rglob("*"))
    assert unfinished(tmp_path / "r") == []
    with pytest.raises(RunError, match="is a link, which is not followed"), run.held():
        pass
    with pytest.raises(OSError, match="is a link"):
        run.write({}, {})
    if part == ".runs":
        with pytest.raises(OSError, match="is a link"):
            reserve(tmp_path / "r", "b")
    run.remove()
    assert sorted(p.name for p in (tmp_path / "moved").rglob("*")) == before


def test_a_checkpoint_takes_the_place_of_a_link(tmp_path: Path, thesis: Path) -> None:
    run = begun(tmp_path / "r", "a", 1)
    plant(run.folder / "00000001.ckpt", thesis, "link")
    path, _ = run.write({"i": 1}, {})
    assert path.name == "00000002.ckpt"
    run.set_aside(run.folder / "00000000.ckpt")
    run.remove()


def test_a_name_that_a_link_to_nothing_has(tmp_path: Path, thesis: Path) -> None:
    plant(tmp_path / "r/a.log", thesis, "link to nothing")
    assert reserve(tmp_path / "r", "a").name == "a_2"
