"""A configuration file with two sections of the smallest size, and what tells runs' results."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utils.results.files import load_results

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, str(ROOT / "run_exps.py")]
ADDED = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
SECTIONS = """
[DEFAULT]
benchmark = cifar
data = sample
num_batch = 5
hidden_units = 20
percent_on_fc = 0.1
mb_size = 32
train_ep = 1
train_ep_inc = 1
lr = 0.02
checkpoint_every = 0.05
[Sparse]
description = a trial
[Dense]
sparsify = false
expected_acc = 99
expected_tol = 1
"""


def listen() -> None:
    """Not to ignore Ctrl-C, as programs that a shell runs in the background do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a command that uses the sections, with results in tmp_path / r."""
    path = tmp_path / "two.cfg"
    path.write_text(SECTIONS)

    def words(*arguments: str, results: str = "r") -> list[str]:
        folder = str(tmp_path / results)
        return [*PROGRAM, "--config", str(path), "--results-dir", folder, *arguments]

    return words


@pytest.fixture
def start(tmp_path: Path) -> Callable[[list[str]], subprocess.Popen[str]]:
    """Begins a command, with both of its outputs in one."""

    def start(words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=tmp_path,
            env=os.environ | ADDED,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=listen if os.name == "posix" else None,
        )

    return start


@pytest.fixture
def finish(start: Callable[[list[str]], subprocess.Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Exit status and output of a whole command."""

    def finish(words: list[str]) -> tuple[int, str]:
        process = start(words)
        out, _ = process.communicate()
        return process.returncode, out

    return finish


@pytest.fixture
def bits() -> Callable[[Path], dict[tuple[Any, ...], bytes]]:
    """Of each result in a folder all that must not depend on how it came about, by its run."""

    def bits(folder: Path) -> dict[tuple[Any, ...], bytes]:
        found = {}
        for path in folder.glob("*.pkl"):
            config, stats = load_results(path)
            free = ("meta", "elapsed", "train_seconds")
            kept = {key: value for key, value in stats.items() if key not in free}
            name = tuple(config[key] for key in ("name", "percent_on_fc", "lr", "seed"))
            assert name not in found
            found[name] = pickle.dumps((config, kept))
        return found

    return bits


@pytest.fixture
def workers() -> Callable[..., list[int]]:
    """The processes of runs in a results folder, of those with more words if given."""

    def workers(folder: Path, *more: str) -> list[int]:
        wanted = {"--worker", f"--results-dir={folder}", *more}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            # Others end while they are looked at.
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if wanted <= set(words):
                    found.append(int(path.name))
        return sorted(found)

    return workers


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Waits for something to hold, as long as a process lives."""

    def wait_until(holds: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
        while not (found := holds()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return found

    return wait_until
