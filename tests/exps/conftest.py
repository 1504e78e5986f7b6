"""Configuration files made for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | bytes], Path]:
    """Writes a configuration file, over the one before, and returns its path."""
    path = tmp_path_factory.mktemp("exps") / "my.cfg"

    def write(content: str | bytes) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
