from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not there")
@pytest.mark.parametrize("what", ["interpret", "compile"])
def test_what_follows_a_convolution(what: str) -> None:
    command = [sys.executable, str(HERE / "interpreted.py"), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
