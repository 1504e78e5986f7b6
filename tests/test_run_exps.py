"""The command line as a user meets it: exit statuses, what is printed, what is left behind."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_exps
from benchmarks.datasets import BUNDLED
from exps import VERSION, config
from utils.results.files import ResultsError, load_results
from utils.runs import folder as runs
from utils.runs.session import resume_command
from utils.system.times import instant

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, str(ROOT / "run_exps.py")]
# Smoke in a second: one epoch on each of five tasks of the CIFAR-10 sample.
TINY = ["--name", "Smoke", "--set", "hidden_units=20", "--set", "train_ep=1"]
TINY += ["--set", "train_ep_inc=1"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

NEEDS_TERMINALS = pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")

Run = Callable[..., tuple[int, str, str]]


def start(*arguments: str, cwd: Path, **streams: Any) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    command = [*PROGRAM, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, text=True, **streams)


def in_a_process(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a whole run of the program."""
    process = start(*arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The same without a process: quicker. Results go into tmp_path / results."""

    def call(*arguments: str, results: Path | None = None) -> tuple[int, str, str]:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            status = run_exps.main(
                [*arguments, "--results-dir", str(results or tmp_path / "results")]
            )
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 0
        finally:
            signal.signal(signal.SIGINT, before)
        return status, *capfd.readouterr()

    return call


def only_result(folder: Path) -> Path:
    (path,) = folder.glob("*.pkl")
    return path


def only_loss(folder: Path) -> float:
    return float(load_results(only_result(folder))[1]["loss"][-1])


def test_a_run_from_another_folder(tmp_path: Path) -> None:
    """Relative folders are those of the user; the result is where the last line says."""
    status, out, err = in_a_process(*TINY, "--results-dir", "my results", cwd=tmp_path)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(
        "Smoke: 5 tasks, task-incremental, sparse MLP, seed 0, dense engine in fp32 on "
    )
    assert "\r" not in out
    assert sum(line.startswith("task ") and " epoch " in line for line in lines) == 5
    assert "mean accuracy after the last task: " in out
    assert "active units in training" in out
    assert "time: " in out
    path = only_result(tmp_path / "my results")
    assert lines[-1] == f"result: {path.relative_to(tmp_path)}"
    assert [p.name for p in tmp_path.iterdir()] == ["my results"]

    # Two plain lines load it where there is no project.
    code = "import pickle, sys; cfg, stats = pickle.load(open(sys.argv[1], 'rb'))"
    code += "; print(cfg['name'], stats['accs'].shape, {m.split('.')[0] for m in sys.modules}"
    code += " & {'torch', 'utils', 'exps'})"
    command = [sys.executable, "-I", "-c", code, str(path)]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "Smoke (5, 5) set()\n"
    mean = 100 * load_results(path)[1]["accs"][-1].mean()
    assert f"mean accuracy after the last task: {mean:.2f} %" in out


def test_what_a_result_holds(run: Run, tmp_path: Path) -> None:
    status, _, err = run(*TINY, "--set", "train_ep=2", "--seed", "7", "--device", "cpu")
    assert (status, err) == (0, "")
    path = only_result(tmp_path / "results")
    assert path.name.startswith("Smoke_20")
    assert path.name.endswith("_s7.pkl")
    with path.open("rb") as file:
        cfg, stats = pickle.load(file)
    exp, _ = config.load(
        "Smoke",
        overrides=["hidden_units=20", "train_ep=2", "train_ep_inc=1", "seed=7", "device=cpu"],
    )
    assert cfg == config.as_dict(exp)
    assert stats["accs"].shape == (5, 5)
    assert np.isfinite(stats["accs"]).all()
    for key in ("perc_on_avg", "perc_on_std", "loss", "train_acc"):
        assert stats[key].shape == (6,)  # epochs
        assert np.isfinite(stats[key]).all()
    assert stats["on_idxs"].shape == (5, 20)
    assert stats["weight_density"]["hidden.0.linear"] == 0.5
    assert {f"heads.{i}" for i in range(5)} < set(stats["weight_density"])
    assert stats["elapsed"] > 0
    meta = stats["meta"]
    assert (meta["version"], meta["seed"], meta["device"]) == (VERSION, 7, "cpu")
    assert (meta["status"], meta["data_source"]) == ("complete", "cifar10_sample.npz (bundled)")
    assert instant(meta["started"]) <= instant(meta["ended"])
    assert {"commit", "torch", "numpy", "host"} <= set(meta)


def test_the_same_seed_gives_the_same_result(run: Run, tmp_path: Path) -> None:
    found = []
    for i, seed in enumerate(("1", "1", "2")):
        status, _, _ = run(*TINY, "--seed", seed, results=tmp_path / str(i))
        assert status == 0
        found.append(load_results(only_result(tmp_path / str(i)))[1])
    first, same, other = found
    for key in ("accs", "loss", "train_acc", "perc_on_avg", "perc_on_std", "on_idxs"):
        np.testing.assert_array_equal(first[key], same[key])
    assert not np.array_equal(first["loss"], other["loss"])


@pytest.mark.parametrize("option", ["--check", "--dry-run", "--quiet"])
@pytest.mark.parametrize(
    ("dynamic", "why"), [("set", "after every epoch of a task but"), ("rigl", "every 100 steps")]
)
def test_a_mechanism_that_never_acts_is_told_of(
    run: Run, tmp_path: Path, option: str, dynamic: str, why: str
) -> None:
    """Before the run, and with the pictures that there are; and it is true."""
    status, _, err = run(*TINY, "--set", f"dynamic={dynamic}", option)
    assert status == 0
    assert f"synapses move {why}" in err
    assert err.count("warning: ") == 1
    if option == "--quiet":
        births = load_results(only_result(tmp_path / "results"))[1]["synapses_by_birth"]
        assert not births[:, 0, 1:].any()
    status, _, err = run(*TINY, "--set", "dynamic=set", "--set", "train_ep=2", option)
    assert (status, err) == (0, "")


def test_the_last_word_counts(run: Run) -> None:
    """Of --set the last one, and of a seed or device that --seed or --device."""
    sets = ["--set", "lr=0.5", "--set", "lr=0.25", "--set", "device=cuda"]
    status, out, _ = run(
        *TINY, *sets, "--device", "cpu", "--set", "seed=1", "--seed", "2", "--dry-run"
    )
    assert status == 0
    for line in ("lr = 0.25", "device = cpu", "seed = 2"):
        assert f"  {line}\n" in out


def test_quiet_says_where_the_result_is_and_nothing_else(run: Run, tmp_path: Path) -> None:
    status, out, err = run(*TINY, "--quiet")
    assert (status, err) == (0, "")
    assert out == f"{only_result(tmp_path / 'results')}\n"


def listen() -> None:
    """Not to ignore Ctrl-C, as programs that a shell runs in the background do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    arguments = [*TINY, "--set", "train_ep_inc=100000", "--results-dir", "results"]
    process = start(
        *arguments,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=listen,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("task 2/5, epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert err.startswith("interrupted: the results so far are kept\nto go on: ")
    path = only_result(tmp_path / "results")
    assert out.splitlines()[-1] == f"result: {path.relative_to(tmp_path)}"
    assert "after task 1" in out
    _, stats = load_results(path)
    assert np.isfinite(stats["accs"]).all(axis=1).tolist() == [True] + [False] * 4
    assert len(stats["loss"]) >= 3
    assert stats["meta"]["status"] == "interrupted"


def test_how_to_go_on_is_typed_as_it_stands() -> None:
    run = runs.Run(Path("it's -a\nfolder"), "A_s0")
    line = resume_command(run, ["--csv=a b"])
    assert line.isprintable()
    said = subprocess.run(["bash", "-c", f"printf '%s,' {line}"], capture_output=True, check=True)
    words = f"python,run_exps.py,--resume,{run.folder},--csv=a b,"
    assert said.stdout.decode() == words


def test_the_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "HOME", str(tmp_path / "home"))
    (tmp_path / "home/data").mkdir(parents=True)
    shutil.copy(BUNDLED / "cifar10_sample.npz", tmp_path / "home/data/cifar10.npz")
    words = ["--results-dir=~/r", "--csv=~/live.csv", "--set", "data_dir=~/data", "--quiet"]
    words += ["--set", "data=full"]
    status, out, err = in_a_process(*TINY, *words, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert os.listdir(tmp_path) == ["home"]
    assert only_result(tmp_path / "home/r") == Path(out.strip())
    assert (tmp_path / "home/live.csv").exists()


@pytest.fixture
def interrupted_while(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Ctrl-C when a function is called, given by its dotted name."""

    def patch(name: str) -> None:
        module, function = name.rsplit(".", 1)
        original = getattr(importlib.import_module(module), function)

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return original(*args, **kwargs)

        monkeypatch.setattr(name, interrupted)

    return patch


def test_a_second_ctrl_c_does_not_cost_the_result(
    run: Run, tmp_path: Path, interrupted_while: Callable[[str], None]
) -> None:
    interrupted_while("utils.training.examiner.accuracy")
    interrupted_while("utils.results.files.save_results")
    status, _, err = run(*TINY)
    assert status == 130
    assert err.startswith("interrupted: the results so far are kept\nto go on: ")
    assert only_result(tmp_path / "results").suffix == ".pkl"


def test_ctrl_c_before_training(
    run: Run, tmp_path: Path, interrupted_while: Callable[[str], None]
) -> None:
    interrupted_while("benchmarks.make_stream")
    status, out, err = run(*TINY)
    assert (status, out) == (130, "")
    assert "before training began" in err
    assert not (tmp_path / "results").exists()


def test_a_divergence_keeps_what_is_done(run: Run, tmp_path: Path) -> None:
    status, out, err = run(*TINY, "--set", "lr=100", "--set", "train_ep_inc=9")
    assert status == 1
    assert err.startswith("error: task ")
    assert "why: training diverged" in err
    assert "(lr = 100)" in err
    assert "Traceback" not in err
    path = only_result(tmp_path / "results")
    assert out.splitlines()[-1] == f"result: {path}"
    _, stats = load_results(path)
    assert stats["meta"]["status"] == "diverged"
    assert np.isfinite(stats["loss"]).all()
    assert np.isnan(stats["accs"][-1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "Zplit*"], "no section is like 'Zplit*'; --list shows all"),
        (["--name", "MLP_1layer"], "there is no section [MLP_1layer]; did you mean 'MLP_1Layer'?"),
        (["--set", "lrr=1"], "--set lrr=1: there is no key 'lrr'; did you mean 'lr'?"),
        (["--set", "lr=fast"], "--set lr=fast: choose a number above 0"),
        (["--set", "lr"], "--set 'lr': write key=value"),
        (
            ["--set", "nesterov=1", "--set", "momentum=0"],
            "--set nesterov=1: nesterov needs momentum",
        ),
        (["--seed", "-1"], "seed=-1: choose a whole number from 0"),
        (["--device", "gpu"], "device=gpu: choose auto, cpu, cuda"),
        (["--config", "nowhere.cfg"], "nowhere.cfg: there is no such file"),
        (["--explain", "lrr"], "there is no key 'lrr'; did you mean 'lr'?"),
        (["--config", "nowhere.cfg", "--list"], "nowhere.cfg: there is no such file"),
        (["--config", "nowhere.cfg", "--check"], "nowhere.cfg: there is no such file"),
    ],
)
def test_wrong_input(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--nmae", "Smoke"], ["Smoke"], ["--name"], ["--qui"]])
def test_wrong_options(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: run_exps.py")
    assert err.splitlines()[-1].startswith("run_exps.py: error: ")


def test_the_exit_status_reaches_the_shell(tmp_path: Path) -> None:
    status, out, err = in_a_process("--set", "lrr=1", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_a_file_of_ones_own(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.cfg"
    own.write_text(
        "[Mine]\ndescription = a trial\nbenchmark = cifar\ndata = sample\nnum_batch = 2\n"
        "hidden_units = 30\npercent_on_fc = 0.1\ntrain_ep = 1\ntrain_ep_inc = 1\nlr = 0.01\n"
    )
    assert run("--config", str(own), "--list") == (0, "Mine  a trial\n", "")
    assert run("--config", str(own), "--check")[0] == 0
    status, _, _ = run("--config", str(own), "--name", "Mine", "--quiet")
    assert status == 0
    assert only_result(tmp_path / "results").name.startswith("Mine_")
    own.write_text("[Mine]\nlrr = 1\n[Other]\nmb_size = 0\n")
    status, out, err = run("--config", str(own), "--check")
    assert (status, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "error"]
    assert "line 2 [Mine]: lrr = '1'" in err
    assert "line 4 [Other]: mb_size = '0'" in err


def test_check_of_the_files_that_come_with_the_program(run: Run) -> None:
    status, out, err = run("--check")
    assert (status, err) == (0, "")
    assert f"{len(config.sections())} sections, all good" in out


def test_a_key_that_does_nothing_gives_a_warning(run: Run) -> None:
    status, _, err = run(*TINY, "--set", "percent_on_conv=0.5", "--quiet")
    assert status == 0
    assert err.startswith("warning: --set percent_on_conv=0.5: does nothing here")
    assert err.count("\n") == 1


def test_a_dry_run_shows_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    status, out, err = run("--name", "Smoke", "--set", "lr=0.5", "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith("[Smoke]\n")
    for part in ("lr = 0.5", "KWinners", "total", "airplane, automobile", "105 training steps"):
        assert part in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper", "much/deeper"])
def test_a_results_folder_that_cannot_be(run: Run, tmp_path: Path, below: str) -> None:
    """Found out before an hour of training, not after it."""
    (tmp_path / "file").write_text("in the way")
    status, out, err = run(*TINY, results=tmp_path / "file" / below)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert str(tmp_path / "file") in err
    assert "--results-dir" in err
    assert "Traceback" not in err


def test_the_figures_are_shown_even_if_the_result_cannot_be_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise ResultsError("no room")

    monkeypatch.setattr("utils.results.files.save_results", full)
    status, out, err = run(*TINY)
    assert status == 1
    assert err.startswith("error: no room\n")
    assert "mean accuracy after the last task" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "device=cuda:99"], "device = cuda:99 is not there"),
        (["--set", "sparse_layers=nupic"], "nupic.torch cannot be imported"),
        (["--set", "data=full"], "cifar10.npz"),
    ],
)
def test_what_this_machine_cannot_do(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    damaged = tmp_path / "data"
    damaged.mkdir()
    (damaged / "cifar10.npz").write_bytes(b"not an npz file")
    status, out, err = run(*TINY, *arguments, "--set", f"data_dir={damaged}")
    assert (status, out) == (1, "")
    assert "\nerror: " in f"\n{err}"
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "usage: run_exps.py"),
        (["--version"], f"sparse-syn {VERSION}"),
        (["--list"], "DEFAULT "),
        (["--explain", "lr"], "lr = 0.1"),
    ],
)
def test_answers_that_do_not_wait_for_torch(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    command = [sys.executable, "-X", "importtime", *PROGRAM[1:], *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert expected in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "exps.config" in imported
    assert not {"torch", "torchvision", "numpy", "matplotlib", "pandas", "tqdm"} & imported
    assert list(tmp_path.iterdir()) == []


def test_the_list_has_every_section(run: Run) -> None:
    status, out, _ = run("--list")
    assert status == 0
    listed = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert listed == config.sections()


def on_a_terminal(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Exit status and everything that a run writes to a terminal of 24 lines and 80 columns."""
    fcntl, pty, termios = map(importlib.import_module, ("fcntl", "pty", "termios"))
    terminal, program_side = pty.openpty()
    fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = start(*arguments, cwd=cwd, stdout=program_side, stderr=program_side)
    os.close(program_side)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other side is closed
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    return process.wait(), shown.decode()


@NEEDS_TERMINALS
def test_bars_on_a_terminal(tmp_path: Path) -> None:
    status, shown = on_a_terminal(*TINY, "--results-dir", "r", cwd=tmp_path)
    assert status == 0
    for bar in ("tasks:", "task 5/5, epoch 1/1:", "task 5/5, testing:"):
        assert f"\r{bar}" in shown
    assert f", loss {only_loss(tmp_path / 'r'):.4g}]" in shown  # of the last epoch
    assert "training accuracy" not in shown  # details are for where there are no bars
    path = only_result(tmp_path / "r")
    assert shown.endswith(f"result: {path.relative_to(tmp_path)}\r\n")


@NEEDS_TERMINALS
def test_bars_are_gone_before_an_error_is_shown(tmp_path: Path) -> None:
    arguments = [*TINY, "--results-dir", "r", "--set", "lr=100", "--set", "train_ep=9"]
    status, shown = on_a_terminal(*arguments, cwd=tmp_path)
    assert status == 1
    bars, error = shown.split("error: ")
    assert bars.endswith(" \r")  # an empty line
    assert "|" not in error.split("time: ")[0]


def test_a_report_after_the_run(run: Run, tmp_path: Path) -> None:
    assert run(*TINY, "--seed", "1", "--quiet")[0] == 0
    status, out, err = run(*TINY, "--seed", "2", "--report")
    assert (status, "error" in err) == (0, False)
    assert "Smoke reaches an average accuracy of " in out
    assert "(n = 2)" in out
    assert (tmp_path / "results" / "report" / "report.html").exists()
    assert out.splitlines()[-1].startswith("result: ")  # as without a report


def test_no_report_without_a_run(run: Run, tmp_path: Path) -> None:
    assert run(*TINY, "--dry-run", "--report")[0] == 0
    assert not (tmp_path / "results").exists()
