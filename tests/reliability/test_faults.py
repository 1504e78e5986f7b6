"""What goes wrong around a run, provoked: nothing is lost, and nothing goes unnoticed.

A larger number of kills, at random moments: kill.py beside this file.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import pickle
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.datasets import load_arrays
from exps.config import Experiment
from utils.results.files import load_results
from utils.runs import folder as runs
from utils.runs.identity import uses
from utils.system import runtime

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "run_exps.py")]
SMALL = ["--name", "Smoke", "--set", "hidden_units=20", "--set", "train_ep_inc=1"]
SMALL += ["--set", "engine=sparse"]
LONG = [*SMALL, "--set", "train_ep=100000", "--set", "checkpoint_every=0.02"]
Call = Callable[..., tuple[int, str, str]]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    return subprocess.Popen(
        [*PROGRAM, *arguments, "--results-dir", str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(".runs/*/*.ckpt"))


def wait_for_checkpoints(process: subprocess.Popen[str], folder: Path, above: int = 0) -> None:
    while process.poll() is None and not any(int(p.stem) > above for p in checkpoints(folder)):
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


def only_result(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (path,) = folder.glob("*.pkl")
    return load_results(path)


def bits(result: tuple[dict[str, Any], dict[str, Any]]) -> bytes:
    """Everything that must not depend on when a run was interrupted."""
    config, stats = result
    free = ("meta", "elapsed", "train_seconds")
    return pickle.dumps((config, {k: v for k, v in stats.items() if k not in free}))


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a signal come when the step with this number, over all engines, has been begun."""

    def patch(step: int, number: int = signal.SIGINT) -> None:
        from utils.engines.winners.engine import SparseEngine

        original, count = SparseEngine.step, iter(range(1, 10**9))

        def signalled(self: Any, *arguments: Any) -> None:
            if next(count) == step:
                signal.raise_signal(number)
            original(self, *arguments)

        monkeypatch.setattr(SparseEngine, "step", signalled)

    return patch


# ---------------------------------------------------------------------------- killed and stopped


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("kill", Path(__file__).with_name("kill.py"))
    assert spec and spec.loader
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
    command = [*SMALL, "--set", "checkpoint_every=0.01", "--set", "train_ep=60"]
    whole = [*command, "--results-dir", str(tmp_path / "whole")]
    kill.finish(whole)
    killed = [*command, "--results-dir", str(tmp_path / "killed")]
    assert kill.kill_often(killed, 5, random.Random(7)) == 5
    assert bits(only_result(tmp_path / "whole")) == bits(only_result(tmp_path / "killed"))
    assert not (tmp_path / "killed" / ".runs").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_and_the_same_command_again(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path, number: int, status: int
) -> None:
    assert call(*SMALL, "--quiet")[0] == 0
    expected = bits(only_result(tmp_path / "r"))
    (path,) = (tmp_path / "r").glob("*.pkl")
    path.unlink()
    stop_at(12, number)
    found, out, err = call(*SMALL)
    monkeypatch.undo()
    assert found == status
    assert err.startswith("interrupted: the results so far are kept\n")
    assert "--resume" in err
    partial = only_result(tmp_path / "r")
    assert partial[1]["meta"]["status"] == "interrupted"
    assert len(partial[1]["loss"]) == 1
    status, out, err = call(*SMALL, "--resume")
    assert (status, err) == (0, "")
    assert "going on with" in out
    assert bits(only_result(tmp_path / "r")) == expected
    assert not (tmp_path / "r" / ".runs").exists()


def test_a_second_ctrl_c_stops_at_once(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    """It waits neither for the step nor for a checkpoint; those that there are stay."""
    from utils.engines.winners.engine import SparseEngine

    original, count = SparseEngine.step, iter(range(1, 10**9))

    def signalled(self: Any, *arguments: Any) -> None:
        if next(count) == 40:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        original(self, *arguments)

    monkeypatch.setattr(SparseEngine, "step", signalled)
    status, _, err = call(*SMALL)
    assert status == 130
    assert err.startswith("error: stopped at once: what the last checkpoint has is kept")
    assert checkpoints(tmp_path / "r")
    assert not list((tmp_path / "r").glob("*.pkl"))
    assert signal.getsignal(signal.SIGINT) is not None
    monkeypatch.undo()
    assert call(*SMALL, "--resume")[0] == 0


# --------------------------------------------------------------------------- what is gone on with


@pytest.fixture
def left(call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path) -> str:
    """An interrupted run, by its name."""
    stop_at(12)
    assert call(*SMALL)[0] == 130
    monkeypatch.undo()
    (run,) = runs.unfinished(tmp_path / "r")
    return run.name


def test_by_name_path_or_result(call: Call, left: str, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    for wanted in (left, f"{left}.pkl", str(folder / ".runs" / left), str(folder / f"{left}.pkl")):
        assert runs.find(folder, wanted).name == left
    assert call("--resume", left)[0] == 0
    status, _, err = call("--resume", left)
    assert status == 2
    assert "it is finished" in err


@pytest.mark.parametrize("wanted", ["nothing", "../x", "..", ".", "/", "x" * 5000, "-"])
def test_runs_that_there_are_not(call: Call, left: str, wanted: str) -> None:
    status, _, err = call(f"--resume={wanted}")
    assert status == 2
    assert err.startswith("error: there is no unfinished run")
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        (["--set", "lr=0.5"], "lr: 0.02 there, 0.5 here"),
        (["--seed", "5"], "seed: 0 there, 5 here"),
        (["--set", "hidden_units=21"], "hidden_units: 20 there, 21 here"),
        (["--set", "engine=dense"], "engine: sparse there, dense here"),
    ],
)
def test_another_configuration(
    call: Call, left: str, arguments: list[str], difference: str
) -> None:
    for resumed in (["--resume", left], [*SMALL, "--resume"]):
        status, _, err = call(*resumed, *arguments)
        assert status == 2
        assert difference in err
        assert len(err.splitlines()) == 3
    assert call("--resume", left, "--set", "checkpoint_every=5")[0] == 0


def test_a_configuration_file_and_no_name(call: Call, left: str, tmp_path: Path) -> None:
    """The section is that of the run."""
    own = tmp_path / "own.cfg"
    place = read_configuration(left, tmp_path)
    own.write_text("\n".join([f"[{place.pop('name')}]", *(f"{k} = {v}" for k, v in place.items())]))
    assert call("--config", str(own), "--resume", left)[0] == 0


@pytest.mark.parametrize("identity", [[], {}, {"config": 7}, {"config": {"name": 7}}])
@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_without_a_configuration(
    call: Call, tmp_path: Path, identity: Any, own: bool
) -> None:
    runs.reserve(tmp_path / "r", "x").write({"identity": identity}, {})
    file = tmp_path / "own.cfg"
    file.write_text("[DEFAULT]\nseed = 1\n")
    status, _, err = call(*(["--config", str(file)] if own else []), "--resume", "x")
    assert status == 2
    assert len(err.splitlines()) == 3


def read_configuration(left: str, tmp_path: Path) -> dict[str, str]:
    return dict(runs.find(tmp_path / "r", left).facts()[1]["identity"]["config"])


def another_digest(*args: Any) -> tuple[Any, str]:
    """What `digest.load` would give of other data."""
    return load_arrays(*args[:3]), "0"


@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("session.VERSION", "9.9.9", "version: 1.0.0 there, 9.9.9 here"),
        ("session.code_digest", lambda roots: "0", "the program's code (SHA-256): "),
        ("benchmarks.digest._load", another_digest, "the data (SHA-256): "),
        ("torch.__version__", "9.9.9", "torch: "),
    ],
)
def test_another_version_or_other_data(
    call: Call, left: str, monkeypatch: Any, name: str, value: Any, difference: str
) -> None:
    monkeypatch.setattr(name.replace("session", "utils.runs.session"), value)
    status, _, err = call("--resume", left)
    assert status == 2
    assert difference in err


def test_code_that_is_trusted(call: Call, left: str, monkeypatch: Any, tmp_path: Path) -> None:
    """The run goes on, and tells all that it was made with; nobody else takes it for their own."""
    from utils.runs.session import code_digest

    monkeypatch.setattr("utils.runs.session.code_digest", lambda roots: "0" * 64)
    status, _, err = call("--resume", left)
    assert (status, "--trust-code goes on all the same" in err) == (2, True)
    assert call("--resume", left, "--trust-code", "--set", "checkpoint_every=5")[0] == 0
    meta = only_result(tmp_path / "r")[1]["meta"]
    first = code_digest(uses(Experiment(name="Smoke", benchmark="cifar")))
    assert meta["trusted_code"] == [first, "0" * 64]
    assert meta["code"] == f"{first}+{'0' * 64}"


FAILING = """
from utils.methods import base

class Method(base.Method):
    def before_step(self, engine, batch, now):
        if now.task == 1:
            raise ValueError("mine")
        return batch
"""


def test_after_a_mistake_in_an_own_file(call: Call, tmp_path: Path) -> None:
    """What is offered then goes on once the file is mended."""
    own = tmp_path / "own.py"
    own.write_text(FAILING)
    status, _, err = call("--name", "Smoke", "--set", f"methods={own}", "--quiet")
    assert (status, "an error in a file of yours" in err) == (1, True)
    offered = err.split("to go on: python run_exps.py ")[1].splitlines()[0]
    own.write_text(FAILING.replace('raise ValueError("mine")', "pass"))
    assert call(*shlex.split(offered))[0] == 0
    assert only_result(tmp_path / "r")[1]["meta"]["status"] == "complete"


def test_a_run_of_a_cpu_where_there_is_a_gpu(call: Call, left: str, monkeypatch: Any) -> None:
    """With device = auto it stays on the CPU: its numbers stay the same."""
    asked = []
    original = runtime.pick_device

    def pick(wanted: str) -> torch.device:
        asked.append(wanted)
        return original(wanted)

    monkeypatch.setattr(runtime, "pick_device", pick)
    assert call("--resume", left)[0] == 0
    assert asked == ["cpu"]


def test_a_data_file_damaged_between_runs(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (200, 32, 32, 3), np.uint8),
        "y_train": np.arange(200, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (40, 32, 32, 3), np.uint8),
        "y_test": np.arange(40, dtype=np.uint8) % 10,
    }
    np.savez(tmp_path / "cifar10.npz", **arrays)
    own = ["--set", "data=full", "--set", f"data_dir={tmp_path}", "--set", "mb_size=8"]
    stop_at(12)
    assert call(*SMALL, *own)[0] == 130
    monkeypatch.undo()
    good = (tmp_path / "cifar10.npz").read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    (tmp_path / "cifar10.npz").write_bytes(bad)
    status, _, err = call(*SMALL, *own, "--resume")
    assert status == 1
    assert "cifar10.npz" in err
    arrays["x_train"][0, 0, 0, 0] ^= 1  # a sound file with another picture
    np.savez(tmp_path / "cifar10.npz", **arrays)
    status, _, err = call(*SMALL, *own, "--resume")
    assert status == 2
    assert "the data (SHA-256)" in err
    (tmp_path / "cifar10.npz").write_bytes(good)
    assert call(*SMALL, *own, "--resume")[0] == 0


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty", "other"])
def test_a_damaged_checkpoint(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path, spoil: str
) -> None:
    assert call(*SMALL, "--quiet")[0] == 0
    expected = bits(only_result(tmp_path / "r"))
    next((tmp_path / "r").glob("*.pkl")).unlink()
    stop_at(40)  # in the third task
    assert call(*SMALL, "--quiet")[0] == 130
    monkeypatch.undo()
    (tmp_path / "r").joinpath(next((tmp_path / "r").glob("*.pkl")).name).unlink()
    _older, newest = checkpoints(tmp_path / "r")
    data = bytearray(newest.read_bytes())
    if spoil == "cut":
        data = data[: len(data) // 2]
    elif spoil == "flip":
        data[len(data) // 3] ^= 4
    newest.write_bytes({"empty": b"", "other": b"x" * 500}.get(spoil, bytes(data)))
    status, _out, err = call(*SMALL, "--resume")
    assert status == 0
    assert err.startswith(f"warning: {newest}: ")
    assert "the checkpoint before it is used" in err
    assert bits(only_result(tmp_path / "r")) == expected

    stop_at(40)
    assert call(*SMALL, "--quiet")[0] == 130
    monkeypatch.undo()
    for path in checkpoints(tmp_path / "r"):
        path.write_bytes(b"x" * 500)
    status, _, err = call(*SMALL, "--resume")
    assert status == 2
    assert "not a checkpoint of this program" in err


def test_the_same_run_resumed_twice_at_once(tmp_path: Path, call: Call) -> None:
    process = start(tmp_path / "r", *LONG)
    wait_for_checkpoints(process, tmp_path / "r")
    for arguments in ([*LONG, "--resume"], ["--resume", runs.unfinished(tmp_path / "r")[0].name]):
        status, _, err = call(*arguments)
        assert status == 2
        assert f"process {process.pid}\n" in err
        assert os.uname().nodename in err
    _, out, _ = call("--list-runs")
    assert f"process {process.pid}" in out
    assert "task 1/5" in out
    process.kill()
    process.communicate()
    _, out, _ = call("--list-runs")
    assert "stopped" in out


def test_two_processes_in_the_same_second(tmp_path: Path) -> None:
    from datetime import datetime

    processes = [start(tmp_path, *SMALL) for _ in range(3)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    results = sorted(tmp_path.glob("*.pkl"))
    assert len(results) == 3
    assert len({bits(load_results(path)) for path in results}) == 1
    when = datetime(2026, 1, 1)
    names = [runs.reserve(tmp_path, f"x_{when:%H}").name for _ in range(3)]
    assert names == ["x_00", "x_00_2", "x_00_3"]


def test_killed_between_the_result_and_the_end(
    call: Call, monkeypatch: Any, tmp_path: Path
) -> None:
    """The result is there already: it is replaced by itself, not doubled."""
    monkeypatch.setattr(runs.Run, "remove", lambda self: None)
    assert call(*SMALL)[0] == 0
    monkeypatch.undo()
    expected = bits(only_result(tmp_path / "r"))
    assert call(*SMALL, "--resume")[0] == 0
    assert bits(only_result(tmp_path / "r")) == expected
    assert not (tmp_path / "r" / ".runs").exists()


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/b", "-rf", "x" * 300])
def test_no_section_name_leaves_the_results_folder(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path, name: str
) -> None:
    """Neither result nor log nor checkpoints."""
    (tmp_path / "own.cfg").write_text(
        f"[{name}]\nbenchmark = cifar\ndata = sample\nnum_batch = 2\nhidden_units = 20\n"
        "percent_on_fc = 0.1\ntrain_ep = 2\ntrain_ep_inc = 1\nengine = sparse\nlr = 0.01\n"
    )
    own = ["--config", str(tmp_path / "own.cfg"), f"--name={name}"]
    stop_at(12)
    assert call(*own)[0] == 130
    monkeypatch.undo()
    (run,) = runs.unfinished(tmp_path / "r")
    assert run.folder.parent == tmp_path / "r" / ".runs"
    assert sorted(os.listdir(tmp_path)) == ["own.cfg", "r"]
    assert call(*own, "--resume")[0] == 0
    assert sorted(p.suffix for p in (tmp_path / "r").iterdir()) == [".log", ".pkl"]
    assert sorted(os.listdir(tmp_path)) == ["own.cfg", "r"]


# ------------------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB."""
    folder = tmp_path / "r"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("needs the right to mount a small file system (root on Linux)")
    yield folder
    while folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room at all."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def test_a_disk_too_small_for_checkpoints(call: Call, small_disk: Path) -> None:
    """One of them takes more than a MiB: the run goes on, is warned of once, and is not lost."""
    status, _, err = call(*SMALL, "--set", "hidden_units=200")
    assert status == 0
    assert err.count("no checkpoint could be written (No space left on device)") == 1
    assert np.isfinite(only_result(small_disk)[1]["accs"]).all()


def test_a_disk_that_fills_up(
    call: Call, small_disk: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    """Neither checkpoint nor result can be written: it is kept elsewhere, and said where."""
    from utils.runs.keeper import Keeper

    original = Keeper.__call__

    def filling(self: Any, done: bool) -> None:
        if not (small_disk / "filler").exists():
            fill(small_disk)
        original(self, done)

    monkeypatch.setattr(Keeper, "__call__", filling)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    status, out, err = call(*SMALL)
    monkeypatch.undo()
    assert status == 1
    assert "No space left on device" in err
    assert "make room there" in err
    (kept,) = elsewhere.rglob("*.pkl")
    assert out.splitlines()[-1] == f"result: {kept}"
    assert np.isfinite(load_results(kept)[1]["accs"]).all()
    (small_disk / "filler").unlink()  # there is room again: the run can be gone on with
    assert call(*SMALL, "--resume")[0] == 0
    assert bits(only_result(small_disk)) == bits(load_results(kept))


def test_a_disk_that_becomes_read_only(
    call: Call, small_disk: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    from utils.runs.keeper import Keeper

    original = Keeper.__call__

    def remounting(self: Any, done: bool) -> None:
        if done and os.access(small_disk, os.W_OK):
            for options in (["--bind", str(small_disk)], ["-o", "remount,bind,ro"]):
                subprocess.run(["mount", *options, str(small_disk)], check=True)
        original(self, done)

    monkeypatch.setattr(Keeper, "__call__", remounting)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, out, err = call(*SMALL)
    assert status == 1
    assert "Read-only file system" in err
    kept = Path(out.splitlines()[-1].removeprefix("result: "))
    assert np.isfinite(load_results(kept)[1]["accs"]).all()
    assert call(*SMALL)[0] == 1  # found out before training


def test_a_results_folder_that_disappears(call: Call, monkeypatch: Any, tmp_path: Path) -> None:
    import shutil

    from utils.runs.keeper import Keeper

    original = Keeper.__call__

    def removing(self: Any, done: bool) -> None:
        if done:
            shutil.rmtree(tmp_path / "r", ignore_errors=True)
        original(self, done)

    monkeypatch.setattr(Keeper, "__call__", removing)
    status, _out, _ = call(*SMALL)
    assert status == 0
    assert np.isfinite(only_result(tmp_path / "r")[1]["accs"]).all()


def test_files_may_not_grow(tmp_path: Path) -> None:
    """A quota, for users without the right to mount: RLIMIT_FSIZE of 200 kB."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000));"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0]); import run_exps;"
        "sys.exit(run_exps.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, str(ROOT), *SMALL, "--results-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no checkpoint could be written (File too large)") == 1
    assert np.isfinite(only_result(tmp_path)[1]["accs"]).all()


# --------------------------------------------------------------------- clock, memory, divergence


def test_the_clock_jumps_backwards(
    call: Call, stop_at: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    """By a day in every second reading: nothing but what is shown to people depends on it."""
    readings = iter(range(10**9))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400 * (next(readings) % 2))
    stop_at(12)
    assert call(*SMALL, "--set", "checkpoint_every=0.001")[0] == 130
    (run,) = runs.unfinished(tmp_path / "r")
    for path in run.checkpoints():  # the newest seems the oldest
        os.utime(path, (real() - int(path.stem) * 86400, real() - int(path.stem) * 86400))
    assert [int(p.stem) for p in run.checkpoints()] == sorted(
        (int(p.stem) for p in run.checkpoints()), reverse=True
    )
    assert re.search(r"\d+ \w+ ago|just now", call("--list-runs")[1])
    assert call(*SMALL, "--set", "checkpoint_every=0.001", "--resume")[0] == 0
    assert 0 < only_result(tmp_path / "r")[1]["elapsed"] < 60


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore lines"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_memory_runs_out(call: Call, monkeypatch: Any, tmp_path: Path, error: Exception) -> None:
    from utils.engines.winners.engine import SparseEngine

    original, steps = SparseEngine.step, iter(range(10**9))

    def failing(self: Any, *arguments: Any) -> None:
        if next(steps) == 40:
            raise error
        original(self, *arguments)

    monkeypatch.setattr(SparseEngine, "step", failing)
    status, _out, err = call(*SMALL)
    monkeypatch.undo()
    assert status == 1
    assert "memory ran out in training" in err
    assert "lower mb_size (now 32)" in err
    assert "Traceback" not in err
    _, stats = only_result(tmp_path / "r")
    assert stats["meta"]["status"] == "out of memory"
    assert np.isfinite(stats["accs"][0]).all()
    assert call(*SMALL, "--resume")[0] == 0  # on a machine with more of it


def test_memory_that_really_runs_out(tmp_path: Path) -> None:
    """Of a process that may take 7 GiB, before training."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (7 * 2**30, 7 * 2**30));"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0]); import run_exps;"
        "sys.exit(run_exps.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, str(ROOT), "--name", "Smoke", "--set"]
    command += ["hidden_units=600000", "--results-dir", str(tmp_path)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert "memory ran out in setting up" in done.stderr
    assert "hidden_units (now 600000)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_diverging_loss(call: Call, tmp_path: Path) -> None:
    status, _out, err = call(*SMALL, "--set", "lr=100", "--set", "engine=auto")
    assert status == 1
    assert "the loss is not finite" in err
    assert only_result(tmp_path / "r")[1]["meta"]["status"] == "diverged"
    assert not (tmp_path / "r" / ".runs").exists()


def test_an_error_that_nobody_thought_of(call: Call, monkeypatch: Any, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a mistake\nof two lines")

    with monkeypatch.context() as patch:
        patch.setattr("utils.training.loop.weight_density", fail)
        status, _, err = call(*SMALL)
    assert status == 1
    assert err.startswith("error: an error in the program\n  why: ZeroDivisionError: a mistake\n")
    assert "Traceback" not in err
    (log,) = (tmp_path / "r").glob("*.log")
    assert "Traceback" in log.read_text()
    assert only_result(tmp_path / "r")[1]["meta"]["status"] == "failed"
    assert call(*SMALL, "--resume")[0] == 0  # the program has been mended meanwhile

    monkeypatch.setattr("benchmarks.make_stream", fail)
    status, _, err = call(*SMALL)
    assert status == 1
    assert "ZeroDivisionError" in err
    (log,) = (tmp_path / "r").glob("error_*.log")
    assert str(log) in err
    assert "Traceback" in log.read_text()


def test_writing_fails_for_a_while(call: Call, monkeypatch: Any, tmp_path: Path) -> None:
    from utils.runs import checkpoint_file

    original, count = checkpoint_file.write, iter(range(10**9))

    def failing(*arguments: Any) -> int:
        if 0 < next(count) < 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(*arguments)

    monkeypatch.setattr(checkpoint_file, "write", failing)
    status, out, err = call(*SMALL, "--set", "checkpoint_every=0.001")
    assert status == 0
    assert err.count("no checkpoint could be written (Input/output error)") == 1
    assert "checkpoints can be written again" in out
