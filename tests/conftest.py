"""Settings for all tests, and the program without a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import run_exps

# Examples are timed by the wall clock, which says nothing on a busy machine. They are the same in
# every run, so that a fault is one of what was changed; with EXPLORE set they are drawn anew.
settings.register_profile("project", deadline=None, derandomize="EXPLORE" not in os.environ)
settings.load_profile("project")
# Small products gain nothing from more, which wait for each other where others compute too.
torch.set_num_threads(1)

# Files that start the program again and again, or try thousands of cases: `make test-fast` leaves
# them out.
SLOW = {
    *("test_command.py", "test_on_ray.py", "test_every_key.py", "test_targets.py"),
    *("test_faults.py", "test_talk.py", "test_run_exps.py", "test_live.py", "test_pairs.py"),
    *("test_what_counts.py", "test_data.py", "test_cores.py", "test_ranking.py"),
    *("test_report.py", "test_extending.py", "test_grow.py", "test_no_bias.py"),
    *("test_engine.py", "test_canvas.py", "test_changes.py", "test_notebook.py"),
    *(
        *("test_stacked.py", "test_together.py"),
        "test_census.py",
        "test_checkpoint.py",
        "test_dgr.py",
        "test_old_synapses.py",
        "test_with_torch.py",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long, and skip what needs a GPU where there is none."""
    there = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("gpu") is not None and not there:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number, and a run that is gone on with takes that of its beginning."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """The program in this process: status, output, errors. Results go into tmp_path / r."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run_exps.main([*arguments, "--results-dir", str(tmp_path / "r")])
        return status, *capfd.readouterr()

    return call
