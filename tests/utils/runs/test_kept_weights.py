"""Weights beside a result: there when it is told of, whole, and the same after an interruption."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import run_exps
from utils.results import load_results, weights
from utils.results.weights import Kept
from utils.runs import session
from utils.runs.session import Session

TINY = ["--name", "Smoke", "--quiet", "--device", "cpu", "--set", "hidden_units=20"]
TINY += ["--set", "train_ep=1", "--set", "train_ep_inc=1", "--set", "num_batch=2"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], dict[str, Kept]]]:
    """A run: its status, its result's facts, and the weights beside it by their names."""

    def run(*words: str, tiny: list[str] = TINY) -> tuple[int, dict[str, Any], dict[str, Kept]]:
        status = run_exps.main([*tiny, *words, "--results-dir", str(tmp_path)])
        paths = sorted(tmp_path.glob("*.pkl"))
        meta = load_results(paths[-1])[1]["meta"] if paths else {}
        found = {its.name: weights.read(its) for its in tmp_path.glob("*.safetensors")}
        return status, meta, found

    return run


def stopping(monkeypatch: pytest.MonkeyPatch, due: Callable[[Session], bool]) -> None:
    """A signal comes when this is so, asked where a checkpoint may be written."""
    before = Session._keeping

    def keeping(self: Session, keeper: Any) -> Callable[[bool], None]:
        keep = before(self, keeper)

        def stopped(done: bool) -> None:
            if due(self):
                keeper.signals.received = signal.SIGTERM
            keep(done)

        return stopped

    monkeypatch.setattr(Session, "_keeping", keeping)


def test_none_are_kept_unasked(run: Callable) -> None:
    status, meta, found = run()
    assert (status, found) == (0, {}) and "weights" not in meta


def test_what_is_told_of_them(run: Callable) -> None:
    """The result names the file, and the file says of itself what the result does."""
    status, meta, found = run("--set", "keep_weights=final", "--seed", "3")
    assert status == 0 and meta["weights"] == list(found) == [f"{meta['run']}.safetensors"]
    [kept] = found.values()
    its = kept.about
    same = ("run", "version", "commit", "code", "torch", "data", "started", "engine")
    assert {name: its.made[name] for name in same} == {name: meta[name] for name in same}
    assert its.config["seed"] == "3" and its.config["name"] == "Smoke"
    assert (its.input_shape, its.head_sizes, its.trained) == ([3, 32, 32], [5, 5], 2)
    assert [task.name for task in its.tasks][1] == "dog, frog, horse, ship, truck"
    assert its.classes[3] == "cat" and its.mean == pytest.approx([0.4914, 0.4822, 0.4465])


def test_they_are_there_before_the_result(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = session.results.save_results

    def save(folder: Path, *rest: Any, run: str, **more: Any) -> Path:
        weights.read(folder / f"{run}.safetensors")
        return before(folder, *rest, run=run, **more)

    monkeypatch.setattr(session.results, "save_results", save)
    assert run("--set", "keep_weights=final")[0] == 0


def test_a_file_a_task(run: Callable) -> None:
    """The first as after a run that ends there, the last as `final` keeps it."""
    _, meta, found = run("--set", "keep_weights=tasks")
    names = [f"{meta['run']}.task{i}.safetensors" for i in (1, 2)]
    assert meta["weights"] == names == sorted(found)
    first, last = (found[name] for name in names)
    assert [first.about.trained, last.about.trained] == [1, 2]
    assert not torch.equal(first.network["heads.1.bias"], last.network["heads.1.bias"])
    assert len(first.about.accs) == 1 and first.about.accs == last.about.accs[:1]


def test_they_may_be_asked_for_when_it_goes_on(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping(monkeypatch, lambda session: session.place.task > 0 and not session.resumed)
    assert run()[0] == 143
    status, meta, found = run("--resume", "--set", "keep_weights=tasks")
    assert status == 0 and meta["weights"] == [f"{meta['run']}.task2.safetensors"] == list(found)
    assert "lost_weights" not in meta


def test_what_was_lost_before_an_interruption_is_told_in_the_end(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words, before = ("--set", "keep_weights=tasks"), Session._keep_weights

    def full(self: Session, task: int | None = None) -> None:
        if self.resumed or task:
            before(self, task)
        else:
            raise session.ResultsError("no space left")

    monkeypatch.setattr(Session, "_keep_weights", full)
    stopping(monkeypatch, lambda session: session.place.task > 0 and not session.resumed)
    assert run(*words)[0] == 1
    status, meta, _ = run(*words, "--resume")
    lost = f"{meta['run']}.task1.safetensors"
    assert status == 1 and f"{lost} is not there" in capsys.readouterr().err
    assert meta["lost_weights"] == [lost]
    assert meta["weights"] == [f"{meta['run']}.task2.safetensors"]


@pytest.mark.parametrize("kept", ["final", "tasks"])
@pytest.mark.parametrize("at", [1, 9, 17, 24])
def test_the_same_after_an_interruption(
    run: Callable, monkeypatch: pytest.MonkeyPatch, kept: str, at: int
) -> None:
    """In the first task, in its tests, in the second: to the bit."""
    words = ("--set", f"keep_weights={kept}", "--set", "methods=ewc", "--set", "boost_strength=2")
    _, _, expected = run(*words)
    calls, before = [0], Session._keeping

    def due(session: Session) -> bool:
        calls[0] += 1
        return calls[0] == at

    stopping(monkeypatch, due)
    status, meta, _ = run(*words)
    assert status == 143 and meta["status"] == "interrupted"
    assert f"{meta['run']}.safetensors" not in meta["weights"]
    monkeypatch.setattr(Session, "_keeping", before)
    status, meta, found = run(*words, "--resume")
    assert status == 0 and meta["resumed"] == 1
    mine = {name: its for name, its in found.items() if name in meta["weights"]}
    assert len(mine) == len(expected) > 0
    for one, other in zip(sorted(mine), sorted(expected), strict=True):
        assert mine[one].tensors.keys() == expected[other].tensors.keys()
        for name, tensor in mine[one].tensors.items():
            assert torch.equal(tensor, expected[other].tensors[name]), name
        assert mine[one].about.accs == expected[other].about.accs


def test_no_room_for_them(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run is not lost: it goes on from its checkpoint once there is room."""
    before = weights.save

    def save(path: Path, *rest: Any) -> Path:
        return before(path.parent / "missing" / path.name, *rest)

    monkeypatch.setattr(weights, "save", save)
    status, _, found = run("--set", "keep_weights=final")
    monkeypatch.undo()
    err = capfd.readouterr().err
    assert (status, found) == (1, {}) and "cannot be written" in err and "--resume" in err
    status, meta, found = run("--set", "keep_weights=final", "--resume")
    assert status == 0 and meta["weights"] == list(found)
