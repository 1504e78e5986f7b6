"""Many runs as a user meets them: what is printed, skipped, gone on with, and left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_exps
from utils.results.files import load_results

Words = Callable[..., list[str]]
LONG = ["--set", "train_ep=100", "--set", "train_ep_inc=20"]
TWO = ["--name", "Sparse", "--seeds", "0-1", "--jobs", "2", *LONG]
IN_PROC = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture
def call(
    command: Words, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: quicker where no run begins. Status, output, errors."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*arguments: str, results: str = "r") -> tuple[int, str, str]:
        status = run_exps.main(command(*arguments, results=results)[2:])
        return status, *capfd.readouterr()

    return call


def test_from_the_first_command_to_the_last(
    tmp_path: Path, command: Words, call: Any, finish: Any, bits: Any
) -> None:
    """A diverging run is no harm to the others; the rest is done once, whatever is asked again."""
    folder = tmp_path / "r"
    few = ["--name", "Sparse", "--name", "Dense", "--seeds", "0"]
    status, out, err = call(*few, "--jobs", "2")
    assert (status, err) == (0, "")
    assert "2 runs: 2 done\n  done: Sparse seed 0: " in out
    first = list(folder.glob("*.pkl"))
    mean = 100 * load_results(next(folder.glob("Dense*.pkl")))[1]["accs"][-1].mean()
    assert f"Dense seed 0: mean accuracy {mean:.2f} % (expected 99 ± 1 %: not met)" in out

    more = [*few, "--grid", "lr=0.02,100"]
    status, out, err = call(*more, "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith("4 runs: 2 done already, 2 to do\n  done        Sparse lr=0.02 seed 0  ")
    assert "  new         Dense lr=100.0 seed 0\n" in out
    status, out, err = call(*more, "--quiet")
    assert status == 1
    assert set(out.splitlines()) == set(map(str, first))
    assert "4 runs: 2 skipped, 2 failed\n" in err
    assert "  failed: Sparse lr=100.0 seed 0\n    task " in err
    assert "(lr = 100)\n    result so far: " in err

    status, out, err = call(*more)
    assert (status, err) == (1, "")
    assert "of 4 runs 2 are done already and 2 diverged before: skipped" in out
    assert len(list(folder.glob("*.pkl"))) == 4

    status, out, _ = call(*few, "--again")
    assert status == 0
    assert "2 runs: 2 done\n" in out
    assert len(list(folder.glob("*.pkl"))) == 6
    assert finish(command("--name", "Sparse", "--seed", "0", results="single"))[0] == 0
    (single,) = bits(tmp_path / "single").items()
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in folder.glob("Sparse*.pkl"):
        if load_results(path)[1]["meta"]["status"] == "complete":
            path.replace(alone / "a.pkl")
            assert list(bits(alone).items()) == [single]


@IN_PROC
def test_killed_interrupted_and_gone_on_with(
    tmp_path: Path,
    command: Words,
    start: Any,
    finish: Any,
    bits: Any,
    workers: Any,
    wait_until: Any,
) -> None:
    """kill -9 of a run, of the command itself, and Ctrl-C: nothing is lost, no process is left."""
    folder = tmp_path / "r"
    words = command(*TWO)

    def training() -> list[Path]:
        """Those that have written some checkpoints since the last look."""
        return [p for p in folder.glob(".runs/*/*.ckpt") if int(p.stem) > newest[0] + 2]

    newest = [0]
    process = start(words)
    wait_until(training, process)
    os.kill(workers(folder)[0], signal.SIGKILL)
    wait_until(lambda: len(workers(folder)) == 2, process)
    newest = [max(int(p.stem) for p in folder.glob(".runs/*/*.ckpt"))]
    wait_until(training, process)
    process.kill()
    process.communicate()
    while workers(folder):  # they write a last checkpoint
        pass

    newest = [max(int(p.stem) for p in folder.glob(".runs/*/*.ckpt"))]
    process = start(words)
    wait_until(training, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130
    assert "stopping: runs write their checkpoints" in out
    assert out.endswith("interrupted; to go on: the same command again\n")
    assert not workers(folder)

    status, out = finish(words)
    assert status == 0
    assert "failed" not in out
    assert not list(folder.glob(".runs/*/*.ckpt"))
    assert finish(command(*TWO, results="plain"))[0] == 0
    assert bits(folder) == bits(tmp_path / "plain")


@IN_PROC
def test_a_second_interruption_waits_for_no_run(
    tmp_path: Path,
    command: Words,
    start: Any,
    finish: Any,
    bits: Any,
    workers: Any,
    wait_until: Any,
) -> None:
    """Runs that hang are killed, and gone on with from their checkpoints afterwards."""
    folder = tmp_path / "r"

    def begun() -> set[Path]:
        return {p.parent for p in folder.glob(".runs/*/*.ckpt") if int(p.stem) > 2}

    process = start(command(*TWO))
    wait_until(lambda: len(begun()) == 2, process)
    for worker in workers(folder):
        os.kill(worker, signal.SIGSTOP)  # it can neither hear nor write
    process.send_signal(signal.SIGINT)
    said = ""
    while "Ctrl-C again" not in said:
        said += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130
    assert out.endswith("interrupted; to go on: the same command again\n")
    assert not workers(folder)
    assert len(list(folder.glob(".runs/*/*.ckpt"))) >= 2
    assert finish(command(*TWO))[0] == 0
    assert finish(command(*TWO, results="plain"))[0] == 0
    assert bits(folder) == bits(tmp_path / "plain")


@IN_PROC
def test_what_another_process_works_on_is_left_to_it(
    tmp_path: Path, command: Words, start: Any, call: Any, wait_until: Any
) -> None:
    endless = ["--name", "Sparse", "--set", "train_ep=100000"]
    process = start(command(*endless))
    wait_until(lambda: list((tmp_path / "r").glob(".runs/*/*.ckpt")), process)
    status, out, _ = call(*endless, "--seeds", "0", "--dry-run")
    assert "in use      Sparse seed 0" in out
    status, out, err = call(*endless, "--seeds", "0")
    process.kill()
    process.communicate()
    assert (status, err) == (0, "")
    assert "1 run: 1 left to another process\n" in out
    assert f"running on host '{os.uname().nodename}', process {process.pid}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "lrr=1"], "error: --grid lrr=1: there is no key 'lrr'; did you mean 'lr'?"),
        (["--seeds", "0-"], "error: --seeds '0-': '0-' is neither a seed nor a range"),
        (["--seeds", "0", "--config", "nowhere.cfg"], "nowhere.cfg: there is no such file\n"),
    ],
)
def test_wrong_input_begins_nothing(
    tmp_path: Path, call: Any, arguments: list[str], message: str
) -> None:
    status, out, err = call("--name", "Sparse", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "r").exists()


def test_a_results_folder_that_cannot_be_one(tmp_path: Path, call: Any) -> None:
    (tmp_path / "r").touch()
    status, out, err = call("--name", "Sparse", "--seeds", "0-1")
    assert (status, out) == (1, "")
    assert "results cannot be written there" in err


def test_a_run_that_cannot_begin_is_a_failure_of_its_own(tmp_path: Path, call: Any) -> None:
    """Its reason is shown as a single run shows it, and the worker's words are in the log."""
    arguments = ["--name", "Dense", "--grid", "data=sample,full", "--seeds", "0"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar10.npz").write_bytes(b"not an npz file")
    status, out, _ = call(*arguments, "--set", f"data_dir={tmp_path / 'data'}")
    assert status == 1
    assert "2 runs: 1 done, 1 failed\n" in out
    assert f"  failed: Dense data=full seed 0\n    {tmp_path / 'data/cifar10.npz'}" in out
    (log,) = (tmp_path / "r").glob("many_*.log")
    assert "exit status 1" in log.read_text()
    assert not list((tmp_path / "r").glob(".runs/*"))


def test_what_begins_with_a_dash_is_a_value(tmp_path: Path, command: Words, finish: Any) -> None:
    """Names of sections, folders and files."""
    program, sections = command()[:2], (tmp_path / "two.cfg").read_text()
    (tmp_path / "-.cfg").write_text(
        sections.replace("[Sparse]", "[-A]").replace("[Dense]", "[it's --a]\n")
    )
    names = ["--name=-A", "--name=it's --a", "--config=./-.cfg"]
    words = ["--seeds=0", "--csv=./-c/", "--tensorboard=./-t", "--results-dir=./-r"]
    status, out = finish([*program, *names, *words])
    assert status == 0, out
    assert f"  done: -A seed 0: {tmp_path}" in out
    assert f"  done: it's --a seed 0: {tmp_path}" in out
    assert [len(list(tmp_path.glob(f"{place}/*"))) for place in ("-c", "-t")] == [2, 2]
    assert len(list(tmp_path.glob("-r/*.pkl"))) == 2


def test_a_report_is_on_the_runs_of_the_command(tmp_path: Path, call: Any) -> None:
    """Its sections, its grid, its seeds, whatever else is in the folder."""
    grid, folder = ["--grid", "percent_on_fc=0.1,0.2,0.4"], tmp_path / "r"
    assert call("--name", "Sparse", *grid, "--seeds", "0-2")[0] == 0
    assert call("--name", "Dense", "--seeds", "0")[0] == 0
    status, out, _ = call("--name", "Sparse", *grid, "--seeds", "1-2", "--report")
    assert status == 0
    assert "\nSparse: of 3 values of percent_on_fc, 0." in out
    assert "(n = 2)" in out and "Dense" not in out
    assert "From 6 runs of 3 conf" in (folder / "report" / "report.html").read_text("utf-8")
    assert len(list(folder.glob("*.pkl"))) == 10


def test_no_report_where_no_run_has_left_a_result(tmp_path: Path, call: Any) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"damaged")
    lost = ["--set", "benchmark=mnist", "--set", "data=full", "--set", f"data_dir={tmp_path}"]
    status, out, _ = call("--name", "Dense", "--seeds", "0-1", *lost, "--report")
    assert status == 1
    assert "no report: no run of this command has left a result" in out


def data_set(folder: Path, seed: int) -> str:
    """Random pictures under the name of CIFAR-10, in a folder of their own."""
    folder.mkdir()
    rng, labels = np.random.default_rng(seed), np.arange(200, dtype=np.uint8) % 10
    x = rng.integers(0, 256, (200, 8, 8, 3), np.uint8)
    np.savez(folder / "cifar10.npz", x_train=x, y_train=labels, x_test=x[:40], y_test=labels[:40])
    return str(folder)


def test_other_data_are_another_run(tmp_path: Path, call: Any) -> None:
    """A sweep over folders does all of them; the same pictures elsewhere are done already."""
    a, b = (data_set(tmp_path / name, i) for i, name in enumerate("ab"))
    shutil.copytree(a, tmp_path / "copy")
    own = ["--name", "Sparse", "--seeds", "0", "--set", "data=full"]
    status, out, err = call(*own, "--grid", f"data_dir={a},{b}")
    assert (status, err) == (0, "")
    assert "2 runs: 2 done\n" in out
    assert f"Sparse data_dir={b} seed 0: mean accuracy" in out
    metas = [load_results(path)[1]["meta"] for path in (tmp_path / "r").glob("*.pkl")]
    assert len({meta["data"] for meta in metas}) == 2
    _, out, err = call(*own, "--grid", f"data_dir={a},{b},{tmp_path / 'copy'}")
    assert "2 runs: 2 skipped\n" in out
    assert "warning: of 3 runs 2 differ, as data are the same: done once" in err

    shutil.rmtree(b)
    data_set(tmp_path / "b", 2)
    status, out, err = call(*own, "--set", f"data_dir={b}")
    assert "1 run: 1 done\n" in out
    assert err.count("(other data)") == 2


def other_torch(folder: Path) -> str:
    """What PYTHONPATH has to be for a process to meet another version of torch."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import torch; torch.__version__ = '9.9.9'")
    return str(folder)


@IN_PROC
def test_what_cannot_be_gone_on_with_is_left_and_begun_anew(
    tmp_path: Path,
    command: Words,
    start: Any,
    call: Any,
    wait_until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of another torch, damaged within, damaged wholly: named, and in nobody's way."""
    folder = tmp_path / "r"
    asked = ["--name", "Sparse", "--seeds", "0", "--set", "train_ep=200"]
    asked += ["--set", "checkpoint_every=0.05"]
    process = start(command(*asked))
    wait_until(lambda: [p for p in folder.glob(".runs/*/*.ckpt") if int(p.stem) > 1], process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    (left,) = {path.parent for path in folder.glob(".runs/*/*.ckpt")}
    before = {path.name: path.read_bytes() for path in left.glob("*.ckpt")}
    with monkeypatch.context() as there:
        there.setenv("PYTHONPATH", other_torch(tmp_path / "site"))
        for again in ([], ["--again"]):
            status, out, err = call(*asked, *again)
            assert (status, "1 run: 1 done\n" in out) == (0, True)
            told = f"warning: Sparse seed 0: .runs/{left.name} cannot be gone on with (torch:"
            assert err.startswith(told)
            assert {path.name: path.read_bytes() for path in left.glob("*.ckpt")} == before
    status, out, err = call(*asked)
    assert (status, "1 run: 1 skipped\n" in out) == (0, True)
    assert "some of what is done was made with torch 9.9.9; here is" in err

    for path in left.glob("*.ckpt"):  # sound headers, damaged behind them
        path.write_bytes(before[path.name][:-9] + b"123456789")
    status, out, err = call(*asked, "--again")
    assert (status, "1 run: 1 done\n" in out) == (0, True)
    assert f".runs/{left.name} cannot be gone on with (" in err
    assert "damaged" in err
    for path in left.glob("*.ckpt"):
        path.write_bytes(b"x")
    status, out, err = call(*asked, "--again", "--dry-run")
    assert (status, out.splitlines()[0]) == (0, "1 run: 1 to do")
    assert f"{left.name} cannot be read as a run, and counts for nothing" in err


def test_code_that_is_trusted(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other code made counts only with the option."""
    few = ["--name", "Sparse", "--seeds", "0"]
    assert call(*few)[0] == 0
    monkeypatch.setattr("utils.many.command.code_digest", lambda roots: "0" * 64)
    _, out, err = call(*few, "--dry-run")
    assert "1 run: 1 to do\n" in out
    assert "do not count: Sparse_" in err
    assert "(another version of the program)" in err
    _, out, err = call(*few, "--dry-run", "--trust-code")
    assert ("1 run: 1 done already\n" in out, err) == (True, "")
