"""docs/api.md: its lines run, and give the numbers of the command that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_exps
from utils.results import load_results

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the lines of the page leave."""
    [code] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    left: dict[str, Any] = {}
    exec(compile(code, "api.md", "exec"), left)
    return left


def test_the_numbers_of_the_command(found: dict[str, Any], tmp_path: Path) -> None:
    [line] = re.findall(r"`python run_exps.py (.*?)`:", DOC)
    assert run_exps.main([*shlex.split(line), "--quiet", "--results-dir", str(tmp_path)]) == 0
    [path] = tmp_path.glob("*.pkl")
    stats = load_results(path)[1]
    mine = found["trainer"].record.stats()
    for name in ("accs", "loss", "train_acc", "on_idxs", "untrained", "entropy"):
        np.testing.assert_array_equal(mine[name], stats[name])


def test_the_curve_of_tests_in_the_middle(found: dict[str, Any]) -> None:
    """Every fifth step of each epoch, by task."""
    curve, steps = found["curve"], 16  # of 500 pictures
    tasks, epochs = (sorted({point[i] for point in curve}) for i in (0, 1))
    assert tasks == [0, 1] and set(epochs) <= {0, 1, 2}
    assert {point[2] for point in curve} <= set(range(0, steps + 1, 5))
    assert all(0 <= point[3] <= 1 for point in curve) and len({p[3] for p in curve}) > 3


def test_every_name_is_there(found: dict[str, Any]) -> None:
    """What the page says in words."""
    import benchmarks.stream
    import exps.config
    import models
    import utils.engines.choose
    import utils.methods.make
    import utils.system.runtime

    there = {
        **dict.fromkeys(("TaskStream", "build_stream"), benchmarks.stream),
        "ConfigError": exps.config,
        "make_model": models,
        "make_methods": utils.methods.make,
        "make_engine": utils.engines.choose,
        "seed_everything": utils.system.runtime,
    }
    for name, module in there.items():
        assert name in DOC and callable(getattr(module, name))
    stream, trainer = found["stream"], found["trainer"]
    x = stream.inputs(stream.test, stream.tasks[1].test)
    labels = stream.labels(stream.test, stream.tasks[1].test)
    model = trainer.engine.model.eval()
    right = (model(x, stream.tasks[1].head).argmax(1) == labels).double().mean()
    assert float(right) == pytest.approx(trainer.test(1), abs=0.02)
