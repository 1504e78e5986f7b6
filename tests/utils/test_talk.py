"""Readers that go away take no work with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.results import load_results

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, str(ROOT / "run_exps.py")]


def without_reader(command: list[str]) -> tuple[int, str]:
    """Exit status and errors of a command whose output goes into a pipe that is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    return done.returncode, done.stderr


def test_a_run_goes_on(tmp_path: Path) -> None:
    status, errors = without_reader([*RUN, "--name", "Smoke", "--results-dir", str(tmp_path)])
    assert (status, errors) == (0, "")
    (path,) = tmp_path.glob("*.pkl")
    assert load_results(path)[1]["meta"]["status"] == "complete"


def test_many_runs_go_on(tmp_path: Path) -> None:
    many = ["--name", "Smoke", "--seeds", "0-1", "--report", "--results-dir", str(tmp_path)]
    assert without_reader([*RUN, *many]) == (0, "")
    assert len([*tmp_path.glob("*.pkl")]) == 2
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--list"],
        [*RUN, "--explain"],
        [*RUN, "--help"],
        [*RUN, "--check-results", "results/reference"],
        [*RUN, "--name", "Smoke", "--dry-run"],
    ],
)
def test_a_listing_ends_in_silence(words: list[str]) -> None:
    status, errors = without_reader(words)
    assert status in (0, 1)  # the reference results are not all as expected
    assert errors == ""


def test_a_report_is_written(tmp_path: Path) -> None:
    results = sorted(map(str, ROOT.glob("results/reference/SplitMNIST_*.pkl")))
    report = [sys.executable, "-m", "utils.report", *results, "--out", str(tmp_path)]
    assert without_reader(report) == (0, "")
    assert (tmp_path / "report.html").exists()
