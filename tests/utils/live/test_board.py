"""TensorBoard's event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import builtins
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utils.live.board import Board, check
from utils.training.listener import LiveError, Moment, TaskTested

ALL = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}


def told(
    folder: Path, past: list[Moment], then: list[Moment], resumed: Moment | None = None
) -> Board:
    board = Board(folder, "R", "| key | value |\n| --- | --- |\n| lr | 0.1 |")
    board.begin(past, resumed)
    board.write()
    for moment in then:
        board.add(moment)
        board.write()
    return board


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "R"), size_guidance=ALL)
    return events.Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = read(folder)
    return {
        tag: [(e.step, round(e.value, 6)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def everything(folder: Path) -> dict[str, Any]:
    events = read(folder)
    tags = events.Tags()
    return {
        **scalars(folder),
        **{
            t: [(e.step, e.histogram_value) for e in events.Histograms(t)]
            for t in tags["histograms"]
        },
        **{t: [(e.step, e.encoded_image_string) for e in events.Images(t)] for t in tags["images"]},
        **{t: [e.step for e in events.Tensors(t)] for t in tags["tensors"]},
    }


def test_what_is_told(tmp_path: Path, moments: Callable) -> None:
    told(tmp_path, [], moments(2, 2))
    assert scalars(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 0.5), (3, 0.333333), (4, 0.25)],
        "train/accuracy": [(i, 0.5) for i in (1, 2, 3, 4)],
        "train/active_percent": [(i, 4.0) for i in (1, 2, 3, 4)],
        "entropy/hidden": [(i, 1.5) for i in (1, 2, 3, 4)],
        "test/mean_accuracy": [(2, 0.06), (4, 0.07)],
        "test/mean_accuracy_of_tasks_seen": [(2, 0.01), (4, 0.07)],
        "test_by_task/task_1": [(2, 0.01), (4, 0.02)],
        "test_by_task/task_2": [(2, 0.11), (4, 0.12)],
    }
    events = read(tmp_path)
    histograms = events.Histograms("duty_cycle/hidden")
    assert [e.step for e in histograms] == [1, 2, 3, 4]
    value = histograms[0].histogram_value
    assert (value.num, round(value.min, 6), round(value.max, 6)) == (3, 0.0, 0.3)
    assert sum(value.bucket) == 3
    (text,) = events.Tensors("configuration/text_summary")
    assert b"| lr | 0.1 |" in text.tensor_proto.string_val[0]


def test_the_matrix_is_a_picture(tmp_path: Path, moments: Callable) -> None:
    told(tmp_path, [], moments(2, 2))
    first, last = read(tmp_path).Images("test/accuracy_matrix")
    assert (first.step, last.step) == (2, 4)
    with Image.open(io.BytesIO(last.encoded_image_string)) as picture:
        assert picture.format == "PNG"
        assert picture.size == (last.width, last.height)
    assert first.encoded_image_string != last.encoded_image_string


def test_an_event_is_there_as_soon_as_it_is_written(tmp_path: Path, moments: Callable) -> None:
    board = told(tmp_path, [], [])
    for number, moment in enumerate(moments(1, 3)[:3], start=1):
        board.add(moment)
        board.write()
        assert len(scalars(tmp_path)["train/loss"]) == number


@pytest.mark.parametrize(("checkpoint", "killed"), [(c, k) for k in range(7) for c in range(k + 1)])
def test_a_resumed_run_tells_what_one_that_was_not_does(
    tmp_path: Path, moments: Callable, killed: int, checkpoint: int
) -> None:
    """killed: after so many moments; checkpoint: with so many of them in the record."""
    run = moments(2, 2)
    told(tmp_path / "whole", [], run)
    told(tmp_path / "cut", [], run[:killed])
    testing = checkpoint in (2, 5)  # the tests after the last epoch come next
    resumed = run[checkpoint - 1] if testing else None
    told(tmp_path / "cut", run[:checkpoint], run[checkpoint:], resumed)
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")


def test_a_run_that_began_without_it(tmp_path: Path, moments: Callable) -> None:
    """All is told but the duty cycles of the past, which are not kept."""
    told(tmp_path / "whole", [], moments(2, 2))
    told(tmp_path / "late", moments(2, 2)[:3], moments(2, 2)[3:])
    assert scalars(tmp_path / "late") == scalars(tmp_path / "whole")


def test_a_clock_that_was_set_back(
    tmp_path: Path, moments: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = moments(2, 2)
    told(tmp_path / "whole", [], run)
    told(tmp_path / "cut", [], run[:5])
    monkeypatch.setattr("utils.live.board.time.time", lambda: 1000.0)
    told(tmp_path / "cut", run[:4], run[4:])
    assert scalars(tmp_path / "cut") == scalars(tmp_path / "whole")


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path, moments: Callable) -> None:
    run = moments(2, 2)
    board = told(tmp_path, [], run[:3])
    shutil.rmtree(tmp_path / "R")
    board.add(run[3])
    with pytest.raises(FileNotFoundError, match="vanished"):
        board.write()
    board.write()
    assert scalars(tmp_path)["train/loss"] == [(3, 0.333333)]
    assert "configuration/text_summary" in read(tmp_path).Tags()["tensors"]


def test_what_could_not_be_written_follows(
    tmp_path: Path, moments: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = moments(2, 2)
    told(tmp_path / "whole", [], run)
    board = told(tmp_path / "full", [], run[:2])

    def full(path: Path, data: bytes) -> None:
        raise OSError("full")

    monkeypatch.setattr("utils.live.board.append", full)
    for moment in run[2:]:
        board.add(moment)
        with pytest.raises(OSError, match="full"):
            board.write()
    monkeypatch.undo()
    board.write()
    assert everything(tmp_path / "full") == everything(tmp_path / "whole")


def test_what_was_not_tested_or_recorded_is_not_told(tmp_path: Path, moments: Callable) -> None:
    from dataclasses import replace

    epoch = replace(moments(1, 1)[0], active=float("nan"), entropy={}, duty_cycles={})
    tested = TaskTested(1, 1, 1, np.array([[0.5, np.nan], [np.nan, np.nan]]))
    told(tmp_path, [], [epoch, tested])
    found = scalars(tmp_path)
    assert {"train/active_percent", "entropy/hidden", "test_by_task/task_2"}.isdisjoint(found)
    assert found["test/mean_accuracy"] == [(1, 0.5)]


def test_with_cumul_all_tasks_are_seen(tmp_path: Path) -> None:
    told(tmp_path, [], [TaskTested(1, 1, 1, np.array([[0.5, 0.25]]))])
    assert scalars(tmp_path)["test/mean_accuracy_of_tasks_seen"] == [(1, 0.375)]


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return original(name, *args)

    import sys

    for name in [
        n for n in sys.modules if n.startswith(("tensorboard", "torch.utils.tensorboard"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(LiveError) as raised:
        check(tmp_path / "tb")
    what, why, remedy = str(raised.value).splitlines()
    assert "TensorBoard is not installed" in what
    assert "No module named 'tensorboard'" in why
    assert "pip install -r requirements-tensorboard.txt" in remedy
    assert not (tmp_path / "tb").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    check(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(LiveError, match="cannot be written"):
        check(tmp_path / "file" / "below")
