"""docs/data.md: its script, and its commands, as a stranger runs them one after the other."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
[(NAME, SCRIPT)] = re.findall(r"```python title=(\S+)\n(.*?)```", DOC, re.DOTALL)
COMMANDS = [  # but for those that download
    line
    for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ")
]


def test_it_runs_as_it_stands_there(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(SCRIPT)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "data").symlink_to(ROOT / "benchmarks" / "data")
    (tmp_path / "results").mkdir()
    assert len(COMMANDS) == 10
    heads = []
    for line in COMMANDS:
        words = shlex.split(line)[1:]
        if words[0] == "run_exps.py":
            words = [str(ROOT / words[0]), "--results-dir", "results", *words[1:]]
        before = {*tmp_path.glob("results/*.pkl")}
        command = [sys.executable, *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (line, done.stderr)
        for path in {*tmp_path.glob("results/*.pkl")} - before:
            config, stats = pickle.loads(path.read_bytes())
            assert not np.isnan(stats["accs"]).any() and np.isfinite(stats["loss"]).all()
            heads.append((config.get("data_file", ""), stats["accs"].shape))
    assert heads == [
        ("mine.npz", (5, 5)),
        ("words.npz", (3, 3)),
        ("features.npz", (3, 3)),
        ("pictures", (4, 4)),
        ("features.npz", (5, 5)),
        ("", (5, 5)),
        ("", (5, 5)),
        ("", (3, 3)),
    ]
