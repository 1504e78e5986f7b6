"""Seeds that are trained as one, as a user meets them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.utils.many.conftest import PROGRAM
from utils.results.files import load_results

SECTION = ["--name", "MLP_1LayerSparse", "--threads", "1"]
KEYS = {
    **{"hidden_units": "64", "percent_on_fc": "0.05", "num_batch": "2", "engine": "stacked"},
    **{"train_steps": "150", "train_steps_inc": "100", "checkpoint_every": "0.05"},
}
SETS = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]


def words(results: Path, *more: str) -> list[str]:
    return [*PROGRAM, *SECTION, *SETS, *more, "--results-dir", str(results)]


def results(folder: Path) -> dict[int, Any]:
    found = [load_results(path) for path in folder.glob("*.pkl")]
    return {config["seed"]: stats for config, stats in found}


def test_seeds_as_one_are_the_seeds_alone_and_one_that_dies_goes_on(
    tmp_path: Path, workers: Callable[..., list[int]]
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    command = words(together, "--seeds", "0-1", "--together", "2")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        while not (begun := list(together.glob(".runs/*_s1/*.ckpt"))) or len(begun) < 2:
            assert run.poll() is None, run.communicate()
            time.sleep(0.02)
        (second,) = workers(together, "--set=seed=1")
        os.kill(second, signal.SIGKILL)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "2 of 2 runs to do, 2 at a time, 2 as one" in out
    assert "its process was killed 1 time(s)" in out
    subprocess.run(words(alone, "--seed", "1", "--quiet"), check=True, capture_output=True)
    found, (single,) = results(together), results(alone).values()
    assert found.keys() == {0, 1}
    assert found[1]["meta"]["resumed"] == 1 and found[1]["meta"]["together"] == 2
    np.testing.assert_allclose(found[1]["loss"], single["loss"], rtol=1e-4)
    np.testing.assert_allclose(found[1]["accs"], single["accs"], atol=0.02)
    assert not np.array_equal(found[0]["accs"], found[1]["accs"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--together", "2", "--jobs", "2"], "--together 2: --jobs says how many"),
        (["--together", "2", "--executor", "ray"], "--together 2: --executor ray gives"),
        (["--together", "2", "--set", "methods=er"], "--together 2: it is for MLPs"),
        (
            ["--together", "2", "--set", "engine=auto", "--device", "cpu"],
            "2: it is for device",
        ),
        (["--together", "0"], "choose a whole number"),
        (["--together", "some"], "choose a whole number"),
    ],
)
def test_what_is_no_company(tmp_path: Path, arguments: list[str], says: str) -> None:
    more = ["--seeds", "0-1", *arguments]
    if "methods=er" in arguments:
        more += ["--set", "engine=auto"]
    done = subprocess.run(words(tmp_path, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_on_a_cpu_seeds_are_trained_one_after_the_other(tmp_path: Path) -> None:
    more = ["--seeds", "0-1", "--set", "engine=auto", "--device", "cpu", "--dry-run"]
    for extra in ([], ["--together", "auto"], ["--together", "1"]):
        command = words(tmp_path, *more, *extra)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
