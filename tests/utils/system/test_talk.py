"""What goes wrong while the program talks takes no work with it, and no name moves a cursor."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exps.progress import watched
from utils.report.write import show
from utils.results.files import load_results
from utils.system import talk
from utils.system.talk import LOG, Bar, harmless, say, say_path, talking, warn

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, str(ROOT / "run_exps.py")]
REPORT = [sys.executable, "-m", "utils.report"]
TINY = ["--name", "Smoke", "--set", "hidden_units=20", "--set", "num_batch=2"]
TINY += ["--set", "train_ep=1", "--set", "train_ep_inc=1"]
TINY += ["--set", "expected_acc=60", "--set", "expected_tol=50"]
REFERENCE = sorted(ROOT.glob("results/reference/SplitMNIST_*s0.pkl"))
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BROKEN = {
    "closed": (">&- 2>&- <&-", {}),
    "full": (">/dev/full 2>&1", {}),
    "C": ("", C_LOCALE),
}


def broken(how: str, command: list[str]) -> tuple[int, str]:
    """Exit status and output of a command whose streams are broken in this way."""
    redirected, added = BROKEN[how]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | added,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, (done.stdout + done.stderr).decode("ascii")


def without_reader(command: list[str]) -> tuple[int, str]:
    """Exit status and errors of a command whose output goes into a pipe that is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    return done.returncode, done.stderr


def statuses(folder: Path) -> list[str]:
    return [load_results(path)[1]["meta"]["status"] for path in folder.glob("*.pkl")]


# ---------------------------------------------------------------------------------- whole commands


@POSIX
@FULL
@pytest.mark.parametrize("how", BROKEN)
def test_a_run_goes_on(tmp_path: Path, how: str) -> None:
    status, said = broken(how, [*PROGRAM, *TINY, "--results-dir", str(tmp_path)])
    assert (status, statuses(tmp_path)) == (0, ["complete"])
    if how == "C":
        assert "\nexpected 60 \\xb1 50 %: met" in said
        assert said.splitlines()[-1] == f"result: {next(tmp_path.glob('*.pkl'))}"


@POSIX
def test_many_runs_go_on(tmp_path: Path) -> None:
    many = [*TINY, "--seeds", "0-1", "--jobs", "2", "--threads", "1", "--report", "--results-dir"]
    assert broken("closed", [*PROGRAM, *many, str(tmp_path)]) == (0, "")
    assert statuses(tmp_path) == ["complete"] * 2
    assert (tmp_path / "report" / "report.html").exists()


@POSIX
@FULL
def test_a_run_is_gone_on_with(tmp_path: Path, call: Any, monkeypatch: Any) -> None:
    from utils.training.loop import weight_density

    def interrupted(model: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return weight_density(model)

    monkeypatch.setattr("utils.training.loop.weight_density", interrupted)
    assert call(*TINY)[0] == 130
    assert statuses(tmp_path / "r") == ["interrupted"]
    resumed = [*PROGRAM, "--resume", *TINY, "--results-dir", str(tmp_path / "r")]
    assert broken("full", resumed)[0] == 0
    assert statuses(tmp_path / "r") == ["complete"]


@POSIX
def test_a_terminal_that_goes_away(tmp_path: Path) -> None:
    """Without a signal; with one: see test_faults.py."""
    ours, its = os.openpty()
    command = [*PROGRAM, *TINY, "--results-dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while b"Smoke: 2 tasks" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait() == 0
    assert statuses(tmp_path) == ["complete"]


@POSIX
@FULL
@pytest.mark.parametrize("how", BROKEN)
def test_answers(how: str) -> None:
    assert broken(how, [*PROGRAM, "--explain"])[0] == 0
    assert broken(how, [*PROGRAM, "--no-such-option"])[0] == 2
    check = [*PROGRAM, "--check-results", "results/reference"]
    assert broken(how, check)[0] in (0, 1)  # the reference results are not all as expected


@POSIX
def test_a_report_is_written(tmp_path: Path) -> None:
    assert broken("C", [*REPORT, str(REFERENCE[0]), "--out", str(tmp_path)])[0] == 0
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("words", [["--list"], ["--help"]])
def test_a_reader_that_has_gone(words: list[str]) -> None:
    assert without_reader([*PROGRAM, *words]) == (0, "")


# ------------------------------------------------------------------------------ one after another


def test_the_result_is_there_before_a_word_about_it(
    call: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    """And a table that fails is a warning."""

    def fail(*_: Any) -> str:
        assert statuses(tmp_path / "r") == ["complete"]
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("utils.runs.session.run_summary", fail)
    monkeypatch.setattr("utils.runs.session.expected.sentence", fail)
    for name in ("headline", "past"):
        monkeypatch.setattr(f"utils.runs.session.{name}", lambda *_: 1 / 0)
    status, out, err = call(*TINY)
    assert (status, statuses(tmp_path / "r")) == (0, ["complete"])
    assert out.splitlines()[-1] == f"result: {next((tmp_path / 'r').glob('*.pkl'))}"
    assert [line.startswith("warning: ") for line in err.splitlines()] == [True] * 4
    assert "what was measured cannot be shown (ZeroDivisionError: a mistake)" in err


def test_whatever_saving_fails_of(call: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """What was measured is in a checkpoint, and shown all the same."""

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("utils.results.files.save_results", fail)
    status, out, err = call(*TINY)
    assert status == 1
    assert "error: memory ran out" in err
    assert "to go on: " in err
    assert "mean accuracy" in out
    monkeypatch.undo()
    assert call(*TINY, "--resume")[0] == 0
    assert statuses(tmp_path / "r") == ["complete"]


# ------------------------------------------------------------------------------------- streams


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise RuntimeError("a stream of somebody else's")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("make", [lambda: None, Broken, object])
def test_no_stream_fails(make: Callable[[], Any], monkeypatch: Any) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, make())
    for surroundings in (contextlib.nullcontext(), talking()):
        with surroundings:
            say("a")
            warn("b")
            Bar("c", total=1).advance()
            say_path(Path("d"), quiet=True)
    monkeypatch.undo()


def test_a_closed_stream_loses_what_is_said_and_no_more(monkeypatch: Any) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", out)
    say("± … \udce9")
    out.seek(0)
    assert out.read() == "± \\u2026 \\udce9\n"
    out.close()
    say("lost")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb — ±", "a\nb — ±"),
        ("\x1b[31mred\r\x07\x00\x7f", r"\x1b[31mred\r\x07\x00\x7f"),
        ("\x9b1m \u202e\u2066\u200f\u2028\t", r"\x9b1m \u202e\u2066\u200f\u2028\t"),
        ("caf\udce9", r"caf\udce9"),
    ],
    ids=["plain", "escapes", "invisible", "bytes"],
)
def test_no_text_moves_the_cursor(monkeypatch: Any, text: str, expected: str) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(LOG, "propagate", False)  # to pytest, which cannot pass on every text
    say(text)
    warn(text)
    with talking():
        print(text)
        with contextlib.suppress(SystemExit):
            from exps.cli import new_parser

            new_parser(prog="x").parse_args([text])
    assert out.getvalue() == f"{expected}\n" * 2
    assert err.getvalue().startswith(f"warning: {expected}\n")
    assert err.getvalue().endswith(f"unrecognized arguments: {expected}\n")


def test_a_path_is_exact_for_a_script_and_readable_on_a_terminal(monkeypatch: Any) -> None:
    for path, exact in ((b"caf\xe9", b"caf\xe9"), (b"a\nb\xe9", b"a\\nb\\udce9")):
        data = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="utf-8"))
        say_path(Path(os.fsdecode(path)), quiet=True)
        assert data.getvalue() == exact + b"\n"
        monkeypatch.setattr(sys, "stdout", Terminal())
        say_path(Path(os.fsdecode(path)), quiet=False)
        assert sys.stdout.getvalue() == f"result: {ascii(os.fsdecode(path))[1:-1]}\n"


def test_a_bar_that_fails_is_gone(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with talking():
        bar, other = Bar("a\x1b[31m", total=3), Bar(total=3)
        assert bar.shown
        monkeypatch.setattr(bar.bar, "update", lambda count: 1 / 0)
        monkeypatch.setattr(other.bar, "update", lambda count: 1 / 0)
        bar.advance()
        other.advance()
        assert not bar.shown
        bar.advance()
        bar.close()
        other.close()
        text = sys.stderr.stream.getvalue()
    assert text.count("warning: no progress is shown any more") == 1
    assert "\\x1b[31m" in text
    assert Bar.all_shown == []


def test_work_that_takes_long_has_a_bar_while_it_lasts(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with talking():
        with contextlib.suppress(ZeroDivisionError), watched("abc", "letters") as those:
            for number, _ in enumerate(those):
                assert [bar.bar.n for bar in Bar.all_shown] == [number]
                1 / (2 - number)
        assert number == 2 and Bar.all_shown == []
        assert "letters:" in sys.stderr.stream.getvalue()


def test_harmless_warns_once(capsys: pytest.CaptureFixture[str]) -> None:
    with talking():
        for _ in range(3):
            with harmless("it cannot be shown"):
                raise KeyError("x")
        assert talk._warned == {"it cannot be shown"}
    assert capsys.readouterr().err.count("warning: it cannot be shown (KeyError: 'x')") == 1


# ---------------------------------------------------------------------------- names of files

ODD = [b"caf\xe9.pkl", b"esc\x1b[31m\x07.pkl", b"a\nb.pkl", "rtl\u202e\x9b.pkl".encode()]


def is_plain(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


@POSIX
def test_results_with_any_name_are_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether they can be read or not."""
    folder = tmp_path / os.fsdecode(b"odd\xff")
    folder.mkdir()
    for name in map(os.fsdecode, ODD):
        shutil.copy(REFERENCE[0], folder / name)
        (folder / f"bad{name}").write_text("no pickle")
    assert show([folder]) == 1
    out, err = capfd.readouterr()
    assert is_plain(out)
    assert is_plain(err)
    assert err.count("\n") == len(ODD)
    assert "caf\\udce9" in out
    report = folder / "report"
    for path in [*report.glob("*.*"), *report.glob("figures/*.svg")]:
        assert is_plain(path.read_bytes().decode()), path
    assert "caf\\udce9.pkl" in (report / "runs.csv").read_text()


def test_checked_and_listed(call: Any, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (folder / ".runs" / "a\x1b[31m\nb").mkdir(parents=True)
    (folder / ".runs" / "a\x1b[31m\nb" / "00000000.ckpt").touch()
    for name in ODD:
        shutil.copy(REFERENCE[0], folder / os.fsdecode(name))
    _, out, _ = call("--check-results", str(folder))
    assert is_plain(out)
    assert out.count("\n") == len(ODD) + 2
    assert call("--list-runs")[1] == f"{folder}: no unfinished runs\n"


def test_a_section_with_any_name(call: Any, tmp_path: Path) -> None:
    own = tmp_path / os.fsdecode(b"c\xff.cfg")
    name = "Odd\x1b[31m\x07\u202e"
    own.write_text(
        f"[{name}]\nbenchmark = cifar\ndata = sample\nnum_batch = 2\nhidden_units = 20\n"
        "percent_on_fc = 0.1\ntrain_ep = 1\ntrain_ep_inc = 1\nlr = 0.01\n",
        encoding="utf-8",
    )
    config = ["--config", str(own)]
    for words in (["--list"], ["--check"], ["--name", "x"], [f"--name={name}"]):
        _, out, err = call(*config, *words)
        assert is_plain(out + err)
    (log,) = (tmp_path / "r").glob("*.log")
    assert is_plain(log.read_text())
