"""One order: tried again after a kill, and refused to two at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from utils.many import worker
from utils.many.order import Order
from utils.many.worker import AT_ONCE, GO_ON, IN_ORDER, RETRIES, Ended, carry_out
from utils.runs.identity import Wanted


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return Order(
        number=3,
        label="A seed 0",
        group="A",
        wanted=Wanted("k" * 64, "c", "d"),
        claim="0",
        device="cpu",
        words=("--name", "A"),
        config=b"[A]\n",
        results_dir=tmp_path / "r",
        folder=tmp_path,
        patience=0.0,
    )


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """How the processes to come end, one after the other."""
    found: list[Ended] = []
    monkeypatch.setattr(worker, "_process", lambda *_: found.pop(0))
    return found


def going_on() -> int:
    return GO_ON


def test_a_killed_process_is_tried_again(order: Order, ends: list[Ended], tmp_path: Path) -> None:
    ends += [Ended(-9, "", ""), Ended(143, "", ""), Ended(0, f"{tmp_path}/A.pkl\n", "")]
    outcome = carry_out(order, {}, going_on)
    assert (outcome.kind, outcome.killed, outcome.path) == ("done", 2, tmp_path / "A.pkl")
    assert outcome.log == tmp_path / "A.log"
    assert not list(order.results_dir.glob(".runs/*"))


def test_but_not_for_ever(order: Order, ends: list[Ended]) -> None:
    ends += [Ended(-9, "", "")] * (RETRIES + 1)
    outcome = carry_out(order, {}, going_on)
    assert (outcome.kind, outcome.killed, ends) == ("failed", RETRIES + 1, [])
    assert outcome.reason.startswith(
        "its process was killed by signal 9 (SIGKILL); when memory is short"
    )


@pytest.mark.parametrize("level", [IN_ORDER, AT_ONCE])
def test_nothing_is_begun_or_tried_again_when_all_is_to_end(
    order: Order, ends: list[Ended], level: int
) -> None:
    assert carry_out(order, {}, lambda: level).kind == "not begun"
    ends.append(Ended(-9, "", ""))
    levels = iter([GO_ON, level, level, level])
    assert carry_out(order, {}, lambda: next(levels)).kind == "interrupted"


@pytest.mark.parametrize(
    ("status", "err", "reason"),
    [
        (1, "warning: x\nerror: what\n  why: y\nto go on: z\n", "what\n  why: y"),
        (2, "error: a\nerror: b\n", "b"),
        (1, "Traceback\nKeyError: 1\n", "KeyError: 1"),
        (1, "", "it ended with status 1"),
    ],
)
def test_the_reason_of_a_failure(
    order: Order, ends: list[Ended], status: int, err: str, reason: str
) -> None:
    ends.append(Ended(status, "", err))
    outcome = carry_out(order, {}, going_on)
    assert (outcome.kind, outcome.reason, outcome.killed) == ("failed", reason, 0)


def test_two_commands_do_not_begin_the_same_run(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []

    def process(*_: Any) -> Ended:
        kinds.append(carry_out(order, {}, going_on).kind)
        return Ended(1, "", "error: x")

    monkeypatch.setattr(worker, "_process", process)
    kinds.append(carry_out(order, {}, going_on).kind)
    assert kinds == ["left to another process", "failed"]


def test_a_folder_that_cannot_be_written(order: Order) -> None:
    order.results_dir.touch()
    outcome = carry_out(order, {}, going_on)
    assert outcome.kind == "failed"
    assert str(order.results_dir) in outcome.reason


def test_a_folder_whose_name_cannot_be_told(
    order: Order, ends: list[Ended], tmp_path: Path
) -> None:
    """A process tells of it escaped; the result is found all the same."""
    odd = replace(order, results_dir=tmp_path / "a\nb\x1b[31m")
    odd.results_dir.mkdir()
    (odd.results_dir / "A.pkl").touch()
    ends.append(Ended(0, f"{tmp_path}/a\\nb\\x1b[31m/A.pkl\n", ""))
    assert carry_out(odd, {}, going_on).path == odd.results_dir / "A.pkl"
