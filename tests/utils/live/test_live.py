"""Runs with listeners, from the command line: what they are told, and that nothing ends a run."""

from __future__ import annotations

import csv
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import run_exps
from utils.live.live import Live
from utils.results.files import load_results
from utils.runs import folder as runs
from utils.training.listener import Listener, Moment

ROOT = Path(__file__).parents[3]
SMALL = ["--name", "Smoke", "--set", "hidden_units=20", "--set", "num_batch=2"]
SMALL += ["--set", "train_ep=2", "--set", "train_ep_inc=1", "--set", "engine=sparse"]
STEPS = 16  # mini-batches in an epoch of two tasks of the sample
Call = Callable[..., tuple[int, str, str]]


def result(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (path,) = folder.glob("*.pkl")
    return load_results(path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_rows_are_those_of(result: dict[str, Any], found: list[dict[str, str]]) -> None:
    """Every epoch and every test of a result once, in order, with its numbers."""
    order = [(row["what"], row["task"], row["epoch"]) for row in found]
    first, second = ("epoch", "1", "1"), ("epoch", "1", "2")
    assert order == [first, second, ("test", "1", "2"), ("epoch", "2", "1"), ("test", "2", "1")]
    epochs = [row for row in found if row["what"] == "epoch"]
    for key in ("loss", "train_acc", "perc_on_avg"):
        np.testing.assert_allclose([float(row[key]) for row in epochs], result[key], rtol=1e-5)
    (layer,) = result["k_winner_layers"]
    entropy = [float(row[f"entropy_{layer}"]) for row in epochs]
    np.testing.assert_allclose(entropy, result["entropy"][:, 0], rtol=1e-5)
    tests = [row for row in found if row["what"] == "test"]
    accs = [[float(row[f"acc_{i}"]) for i in (1, 2)] for row in tests]
    np.testing.assert_allclose(accs, result["accs"], rtol=1e-5)
    means = [float(row["mean_acc"]) for row in tests]
    np.testing.assert_allclose(means, result["accs"].mean(axis=1), rtol=1e-5)


def events(folder: Path) -> EventAccumulator:
    (run,) = folder.iterdir()
    sizes = {"scalars": 0, "histograms": 0, "images": 0}
    return EventAccumulator(str(run), size_guidance=sizes).Reload()


def assert_events_are_those_of(result: dict[str, Any], found: EventAccumulator) -> None:
    def told(tag: str) -> tuple[list[int], list[float]]:
        scalars = found.Scalars(tag)
        return [e.step for e in scalars], [e.value for e in scalars]

    assert told("train/loss")[0] == [1, 2, 3]
    np.testing.assert_allclose(told("train/loss")[1], result["loss"], rtol=1e-5)
    (layer,) = result["k_winner_layers"]
    np.testing.assert_allclose(told(f"entropy/{layer}")[1], result["entropy"][:, 0], rtol=1e-5)
    for task in (1, 2):
        steps, accs = told(f"test_by_task/task_{task}")
        assert steps == [2, 3]
        np.testing.assert_allclose(accs, result["accs"][:, task - 1], rtol=1e-5)
    histograms = found.Histograms(f"duty_cycle/{layer}")
    assert [(e.step, sum(e.histogram_value.bucket)) for e in histograms] == [
        (1, 20),
        (2, 20),
        (3, 20),
    ]
    assert [e.step for e in found.Images("test/accuracy_matrix")] == [2, 3]


def test_listeners_are_told_what_the_result_has(call: Call, tmp_path: Path) -> None:
    status, _, err = call(*SMALL, "--csv", f"{tmp_path}/c/", "--tensorboard", f"{tmp_path}/tb")
    assert (status, err) == (0, "")
    _, stats = result(tmp_path / "r")
    (path,) = (tmp_path / "c").iterdir()
    assert path.stem == stats["meta"]["run"] == next((tmp_path / "tb").iterdir()).name
    assert_rows_are_those_of(stats, rows(path))
    assert_events_are_those_of(stats, events(tmp_path / "tb"))


def test_they_change_no_number(call: Call, tmp_path: Path) -> None:
    found = []
    for more in ([], ["--csv", f"{tmp_path}/a.csv", "--tensorboard", f"{tmp_path}/tb"]):
        assert call(*SMALL, *more)[0] == 0
        cfg, stats = result(tmp_path / "r")
        free = ("meta", "elapsed", "train_seconds")
        found.append(pickle.dumps((cfg, {k: stats[k] for k in stats if k not in free})))
        shutil.rmtree(tmp_path / "r")
    assert found[0] == found[1]


@pytest.mark.parametrize("step", [1, STEPS // 2, STEPS - 1, STEPS + 3, 2 * STEPS, 2 * STEPS + 5])
def test_an_interrupted_run_goes_on_without_doubled_lines(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    from utils.engines.winners.engine import SparseEngine

    original, count = SparseEngine.step, iter(range(1, 10**9))

    def signalled(self: Any, *arguments: Any) -> None:
        if next(count) == step:
            signal.raise_signal(signal.SIGINT)
        original(self, *arguments)

    listening = ["--csv", f"{tmp_path}/a.csv", "--tensorboard", f"{tmp_path}/tb"]
    monkeypatch.setattr(SparseEngine, "step", signalled)
    status, _, err = call(*SMALL, *listening)
    monkeypatch.undo()
    assert status == 130
    said = err.splitlines()[-1]
    assert said.endswith(f" --tensorboard={tmp_path}/tb --csv={tmp_path}/a.csv")
    again = said.partition("run_exps.py ")[2].split()
    assert run_exps.main(again) == 0
    _, stats = result(tmp_path / "r")
    assert_rows_are_those_of(stats, rows(tmp_path / "a.csv"))
    assert_events_are_those_of(stats, events(tmp_path / "tb"))


@pytest.mark.parametrize("picture", [4, 13, 24, 31])
def test_tests_within_tasks_are_told_once(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: int
) -> None:
    """Also where a run is interrupted in the middle of one."""
    from utils.engines.winners.engine import SparseEngine

    original, count = SparseEngine.logits, iter(range(1, 10**9))

    def signalled(self: Any, *arguments: Any) -> Any:
        if next(count) == picture:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    listening = ["--csv", f"{tmp_path}/a.csv", "--tensorboard", f"{tmp_path}/tb"]
    monkeypatch.setattr(SparseEngine, "logits", signalled)
    status, _, err = call(*SMALL, *listening, "--set", "eval_every=3")
    monkeypatch.undo()
    assert status == 130
    again = err.splitlines()[-1].partition("run_exps.py ")[2].split()
    assert run_exps.main(again) == 0
    _, stats = result(tmp_path / "r")
    found = rows(tmp_path / "a.csv")
    assert_rows_are_those_of(stats, [row for row in found if row["what"] != "within"])
    assert_events_are_those_of(stats, events(tmp_path / "tb"))
    steps, accs = stats["curve_steps"], stats["curve_accs"]
    inner = np.flatnonzero(np.diff(stats["curve_tasks"], append=2) == 0)
    within = [row for row in found if row["what"] == "within"]
    assert [int(row["step"]) + 32 * (row["task"] == "2") for row in within] == list(steps[inner])
    told = [[float(row["acc_1"]), float(row["acc_2"])] for row in within]
    np.testing.assert_allclose(told, accs[inner], rtol=1e-5)
    (run,) = (tmp_path / "tb").iterdir()
    scalars = EventAccumulator(str(run / "within")).Reload().Scalars("test_by_task/task_2")
    assert [e.step for e in scalars] == list(steps[inner])
    np.testing.assert_allclose([e.value for e in scalars], accs[inner, 1], rtol=1e-5)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_run_that_was_killed_after_it_told(call: Call, tmp_path: Path, moment: int) -> None:
    """Right behind the moment, before a checkpoint: it is repeated, and told once."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import run_exps
from utils.live.live import Live
original, count = Live._tell, iter(range(10**9))
def tell(self, note):
    original(self, note)
    if next(count) == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
Live._tell = tell
run_exps.main(sys.argv[1:])
"""
    listening = ["--csv", f"{tmp_path}/a.csv", "--tensorboard", f"{tmp_path}/tb"]
    often = ["--set", "checkpoint_every=0.001"]
    command = [sys.executable, "-c", code, *SMALL, *often, *listening]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [*command, "--results-dir", str(tmp_path / "r")], env=environment, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(rows(tmp_path / "a.csv")) == moment
    (run,) = runs.unfinished(tmp_path / "r")
    assert call("--resume", run.name, *listening)[0] == 0
    _, stats = result(tmp_path / "r")
    assert_rows_are_those_of(stats, rows(tmp_path / "a.csv"))
    assert_events_are_those_of(stats, events(tmp_path / "tb"))


def test_a_vanished_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Live.tested

    def removing(self: Live, task: int, *rest: Any) -> None:
        if task == 0:
            shutil.rmtree(tmp_path / "live")
        original(self, task, *rest)

    monkeypatch.setattr(Live, "tested", removing)
    live = tmp_path / "live"
    status, out, err = call(*SMALL, "--csv", f"{live}/a.csv", "--tensorboard", f"{live}/tb")
    assert status == 0
    assert err.count("warning: ") == err.count("it has vanished") == 2  # one each
    assert out.count("can be written again") == 2
    _, stats = result(tmp_path / "r")
    assert_rows_are_those_of(stats, rows(live / "a.csv"))
    assert [e.step for e in events(live / "tb").Scalars("train/loss")] == [3]


@pytest.mark.parametrize("room_again", [True, False])
def test_a_full_disk(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_again: bool
) -> None:
    """After the first moment; with room again at the end, nothing is missing."""
    from utils.live.append import append

    full = iter([False] * 5 + [True] * (4 if room_again else 100))

    def filling(path: Path, data: bytes) -> None:
        if path.suffix != ".tmp" and next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, data)

    for module in ("csv_file", "board"):
        monkeypatch.setattr(f"utils.live.{module}.append", filling)
    live = tmp_path / "live"
    status, _, err = call(*SMALL, "--csv", f"{live}/a.csv", "--tensorboard", f"{live}/tb")
    assert status == 0
    assert err.count("warning: ") == err.count("(No space left on device)") == 2  # one each
    _, stats = result(tmp_path / "r")
    if room_again:
        assert_rows_are_those_of(stats, rows(live / "a.csv"))
        assert_events_are_those_of(stats, events(live / "tb"))
    else:
        assert len(rows(live / "a.csv")) == 1


class Broken:
    """A listener with a fault of the program in it."""

    path = Path("broken")

    def __init__(self) -> None:
        self.asked = 0

    def begin(self, past: Any, resumed: Any) -> None:
        pass

    def add(self, moment: Moment) -> None:
        self.asked += 1
        raise ZeroDivisionError("a fault")

    def write(self) -> None:
        pass


class Diary(Broken):
    """One without."""

    path = Path("diary")

    def add(self, moment: Moment) -> None:
        self.asked += 1


def test_a_fault_in_a_listener_silences_this_one_only(capsys: pytest.CaptureFixture[str]) -> None:
    broken, diary = Broken(), Diary()
    listeners: list[Listener] = [broken, diary]
    live = Live(listeners)
    live.begin([], False)
    for task in range(3):
        live.tested(task, 0, np.ones((3, 3)))
    assert (broken.asked, diary.asked) == (1, 3)
    err = capsys.readouterr().err
    assert err.count("warning: ") == 1
    assert "broken: nothing more is written there (ZeroDivisionError: a fault)" in err


@pytest.mark.parametrize("option", ["--csv", "--tensorboard"])
def test_what_cannot_be_written_is_found_out_before_training(
    call: Call, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    status, out, err = call(*SMALL, option, str(tmp_path / "file" / "below" / "x"))
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {option} ")
    assert len(err.splitlines()) == 3
    assert not runs.unfinished(tmp_path / "r")


def test_a_file_with_other_columns(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert call(*SMALL, "--csv", str(path))[0] == 0
    before = path.read_bytes()
    status, _, err = call(*SMALL, "--set", "num_batch=5", "--csv", str(path))
    assert status == 1
    assert "the file has other columns" in err
    assert path.read_bytes() == before
