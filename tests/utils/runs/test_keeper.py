"""When checkpoints are written, and what happens when they cannot be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utils.runs.keeper import Keeper
from utils.system.signals import Signals, Stopped


class Disk:
    """Stands in for a run's folder; writes nothing while `closed`."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.error: Exception | None = None

    def write(self, facts: dict[str, Any], _tree: Any) -> tuple[Path, int]:
        self.begun.set()
        self.open.wait()
        if self.error:
            raise self.error
        self.written.append(facts["n"])
        return Path("x"), 1


def counting() -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    numbers = iter(range(1, 10**9))
    return lambda: ({"n": next(numbers)}, {})


def test_after_tasks_only() -> None:
    disk = Disk()
    with Keeper(counting(), disk.write, 0, Signals()) as keeper:
        for done in (False, False, True, False):
            keeper(done)
        keeper.flush()
    assert disk.written == [1]
    assert keeper.costs["written"] == 1


def test_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    disk = Disk()
    with Keeper(counting(), disk.write, 60, Signals()) as keeper:
        for now[0] in range(25, 225, 25):
            keeper(False)
            keeper.flush()
    assert disk.written == [1, 2]


def test_one_that_is_due_meanwhile_is_copied_when_the_disk_is_free() -> None:
    disk = Disk()
    disk.open.clear()
    with Keeper(counting(), disk.write, 0, Signals()) as keeper:
        keeper(True)
        disk.begun.wait()
        for _ in range(3):
            keeper(True)
        disk.open.set()
        keeper.flush()
        assert disk.written == [1]
        for _ in range(3):
            keeper(False)
            keeper.flush()
    assert disk.written == [1, 2]


def test_a_slow_disk_does_not_hold_up_the_training() -> None:
    disk = Disk()
    disk.open.clear()
    with Keeper(counting(), disk.write, 1e-9, Signals()) as keeper:
        for _ in range(100):
            keeper(False)
        disk.begun.wait()
        disk.open.set()
        keeper.flush()
    assert disk.written == [1]


def test_a_signal_ends_the_run_with_a_checkpoint() -> None:
    disk, signals = Disk(), Signals()
    with Keeper(counting(), disk.write, 0, signals) as keeper:
        keeper(False)
        signals.received = signal.SIGTERM
        with pytest.raises(Stopped) as stopped:
            keeper(False)
    assert stopped.value.status == 143
    assert disk.written == [1]


def test_errors_are_told_once_and_so_is_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    disk = Disk()
    with Keeper(counting(), disk.write, 0, Signals()) as keeper:
        for error in (OSError(28, "No space left on device"), OSError(28, "No space"), None):
            disk.error = error
            keeper(True)
            keeper.flush()
    out, err = capsys.readouterr()
    assert err.count("warning: no checkpoint could be written (No space left on device)") == 1
    assert out.count("checkpoints can be written again") == 1


def test_other_errors_are_not_hidden() -> None:
    disk = Disk()
    disk.error = ZeroDivisionError("a mistake")
    with Keeper(counting(), disk.write, 0, Signals()) as keeper:
        keeper(True)
        with pytest.raises(ZeroDivisionError):
            keeper.flush()


def test_no_memory_for_a_copy(capsys: pytest.CaptureFixture[str]) -> None:
    def take() -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with Keeper(take, Disk().write, 0, Signals()) as keeper:
        keeper(True)
    assert "not enough memory" in capsys.readouterr().err


def test_signals_by_phase() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        with pytest.raises(Stopped, match="before training began"):
            signal.raise_signal(signal.SIGTERM)
        signals.received, signals.patient = None, True
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(Stopped, match="stopped at once") as stopped:
            signal.raise_signal(signal.SIGINT)
        assert stopped.value.status == 130
        signals.deaf = True
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
