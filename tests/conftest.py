"""Settings for all tests, and the program without a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import run_exps

# Examples are timed by the wall clock, which says nothing on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """The program in this process: status, output, errors. Results go into tmp_path / r."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run_exps.main([*arguments, "--results-dir", str(tmp_path / "r")])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def threads() -> Iterator[None]:
    """One thread; a run that is gone on with takes the number that it was begun with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
