"""Pictures are drawn whatever matplotlib is set to where the program runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RESULTS = sorted(ROOT.glob("results/reference/SplitMNIST_*.pkl"))[:1]
LATIN = "# Größe\nbackend: no such one\ntext.usetex: True\n".encode("latin-1")
# The report's colours and pictures of TensorBoard; then what others have of it in this process.
DRAW = """
import os, numpy as np
from utils.live.picture import accuracy_picture
assert accuracy_picture(np.eye(3)).shape[2] == 3
import matplotlib
print(os.environ.get("MPLBACKEND"), dict.__getitem__(matplotlib.rcParams, "backend"))
"""


def python(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Python in this folder, with the project's modules."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.no_such", "Qt4Agg", "", "svg"])
def test_no_backend_is_needed(tmp_path: Path, backend: str) -> None:
    done = python(tmp_path, "-c", DRAW, MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")
    if backend == "svg":
        assert done.stdout == "svg svg\n"


@pytest.mark.parametrize("place", ["working directory", "MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_settings_that_cannot_be_read_are_left_out(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "matplotlibrc").write_bytes(LATIN)
    here, environ = (folder, {}) if place == "working directory" else (tmp_path, {place: folder})
    done = python(here, "-c", DRAW, **{name: str(path) for name, path in environ.items()})
    assert done.returncode == 0, done.stderr
    assert "warning: matplotlib's settings cannot be read, and are left out: " in done.stderr


def test_settings_that_can_be_read_change_no_picture(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")  # without LaTeX, an error
    done = python(tmp_path, "-c", DRAW)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_home_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # no folder of settings can be made below it
    home = str(tmp_path / "file/home")
    done = python(tmp_path, "-c", "import utils.report.canvas", MPLCONFIGDIR=home, HOME=home)
    assert done.returncode == 0, done.stderr


def test_a_report_in_the_shell_of_a_notebook(tmp_path: Path) -> None:
    words = ["-m", "utils.report", *map(str, RESULTS), "--out", str(tmp_path / "out")]
    done = python(tmp_path, *words, MPLBACKEND="module://no_such.backend")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("report: ")
    assert list(tmp_path.glob("out/figures/*.png"))
