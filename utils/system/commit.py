"""Which commit of the project a run is made with; answers without torch."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The project's git commit, `+changes` behind it if files differ; empty without git."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        found = git("rev-parse", "HEAD")
        return found + ("+changes" if found and git("status", "--porcelain", "-uno") else "")
    except FileNotFoundError:  # git is not installed
        return ""
