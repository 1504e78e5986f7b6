"""The example notebook runs, on the reference results that come with the project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "results.ipynb"

# Runs every cell like a notebook does, and says how many pictures were shown.
PROGRAM = """
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
shown = []
plt.show = lambda: (shown.extend(plt.get_fignums()), plt.close("all"))
names = {}
for number, cell in enumerate(json.load(sys.stdin), 1):
    exec(compile(cell, f"cell {number}", "exec"), names)
print(len(shown), sorted(set(names["runs"]["name"])))
"""


@pytest.fixture
def cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("folder", ["docs", "."])
def test_it_runs(cells: list[dict[str, Any]], folder: str) -> None:
    sources = json.dumps(["".join(cell["source"]) for cell in cells])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=sources,
        cwd=ROOT / folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pictures, names = done.stdout.split(" ", 1)
    assert pictures == "3"
    assert "'MLP_1LayerSparse'" in names


def test_it_is_kept_with_what_it_shows(cells: list[dict[str, Any]]) -> None:
    kinds = [kind for cell in cells for out in cell["outputs"] for kind in out.get("data", {})]
    assert kinds.count("image/png") == 3
    assert "text/html" in kinds
    assert not any(out["output_type"] == "error" for cell in cells for out in cell["outputs"])
