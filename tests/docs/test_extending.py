"""docs/extending.md: every file of it as it stands there, and every command with it."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python title=(\S+)\n(.*?)```", DOC, re.DOTALL))
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in block.splitlines()
    if ".py --" in line and "./" in line
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with all files of the page, and a little Fashion-MNIST as torchvision has it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    raw, draw = tmp_path / "data" / "FashionMNIST" / "raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 20)):
        labels = np.arange(n, dtype=np.uint8) % 10
        for kind, array in (
            ("images-idx3", draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", labels),
        ):
            header = np.array([8 * 256 + array.ndim, *array.shape], dtype=">i4")
            (raw / f"{part}-{kind}-ubyte").write_bytes(header.tobytes() + array.tobytes())
    return tmp_path


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of a user who works in this folder."""
    command = [sys.executable, str(ROOT / "run_exps.py"), "--results-dir", "results", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def result(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The only one there."""
    [path] = (place / "results").glob("*.pkl")
    config, stats = pickle.loads(path.read_bytes())
    return config, stats


def test_every_file_has_a_command() -> None:
    assert len(FILES) >= 8
    for name in FILES:
        assert any(f"./{name}" in line for line in COMMANDS), name


@pytest.mark.parametrize("line", COMMANDS)
def test_it_runs_as_it_stands_there(place: Path, line: str) -> None:
    words = shlex.split(line)[2:]
    done = run(place, "--quiet", "--device", "cpu", *words)
    assert done.returncode == 0, done.stderr
    config, stats = result(place)
    assert not np.isnan(stats["accs"]).any() and np.isfinite(stats["loss"]).all()
    for pair in (word for word in words if "=" in word):  # what is asked for is in the result
        key, value = pair.split("=")
        assert value.removeprefix("./") in str(config[key])
    for own, array in {"drift": (5,)}.items() if "drift" in line else ():
        assert stats[own].shape == array and stats[own][0] == pytest.approx(0, abs=1e-6)


def test_what_si_says_of_itself(place: Path) -> None:
    """Its keys are checked, explained and found like all others."""
    both = ("--set", "methods=si.py, contexts", "--set", "context_units=100")
    shown = run(place, "--dry-run", "--name", "Smoke", *both)
    assert "si_strength = 0.1" in shown.stdout and "methods = si.py" in shown.stdout
    assert "context = prototype" in shown.stdout
    wrong = run(place, "--check", "--set", "methods=si.py", "--set", "si_strength=-1")
    assert wrong.returncode == 2 and "choose a number from 0, at most 1e+06" in wrong.stderr
    wrong = run(place, "--dry-run", "--set", "methods=si.py", "--set", "si_strenght=1")
    assert "there is no key 'si_strenght'; did you mean 'si_strength'?" in wrong.stderr
    wrong = run(place, "--dry-run", "--set", "methods=si.py", "--set", "engine=sparse")
    assert wrong.returncode == 1 and "gradient of every parameter, which si needs" in wrong.stderr
    wrong = run(place, "--dry-run", "--set", "methods=pruning.py")
    assert wrong.returncode == 2 and "pruning needs masks: set it below 1" in wrong.stderr


SMALL = ("--name", "Smoke", "--set", "checkpoint_every=0.001", "--device", "cpu", "--quiet")


def test_another_file_is_another_run(place: Path) -> None:
    """A comment changes nothing, a line of code does; and a run goes on with the same file only."""
    words = (*SMALL, "--set", "methods=si.py", "--seeds", "0")
    assert run(place, *words).returncode == 0
    assert "(skipped)" in run(place, *words).stdout or len(list(place.glob("results/*.pkl"))) == 1
    (place / "si.py").write_text(FILES["si.py"].replace("2 * self", "4 * self"))
    assert run(place, *words).returncode == 0
    assert len(list(place.glob("results/*.pkl"))) == 2
    (place / "si.py").write_text(FILES["si.py"].replace("2 * self", "4 * self") + "# twice\n")
    assert run(place, *words).returncode == 0
    assert len(list(place.glob("results/*.pkl"))) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name\n", "mine.py, line 1: ModuleNotFoundError"),
        ("x = 1\n  y = 2\n", "mine.py, line 2: IndentationError"),
        ("x = 1\n", "mine.py: it has no Method, as a method has"),
        ("KEYS = 3\nclass Method: pass\n", "KEYS must be a dict"),
        (
            "from exps.keys import Key\nfrom exps.kinds import Switch\n"
            "KEYS = {'lr': Key(True, Switch(), '')}\nclass Method: pass\n",
            "mine.py: there is a key 'lr' already",
        ),
        (
            "def contradictions(exp):\n    return exp.nope\nclass Method: pass\n",
            "line 2: Attribute",
        ),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def begin_task(self, engine, task):\n        1 / 0\n",
            "mine.py, line 5: ZeroDivisionError",
        ),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def result(self):\n        return {'loss': 1}\n",
            "'loss' is there already; give it another name",
        ),
    ],
)
def test_a_fault_is_told_by_the_users_file_and_line(place: Path, text: str, told: str) -> None:
    (place / "mine.py").write_text(text)
    done = run(place, *SMALL, "--set", "methods=mine.py")
    assert done.returncode in (1, 2)
    assert told in done.stderr and "Traceback" not in done.stderr
    missing = run(place, *SMALL, "--set", "methods=elsewhere.py")
    assert (
        missing.returncode == 2 and "elsewhere.py: cannot be read: No such file" in missing.stderr
    )


def test_a_result_is_not_trusted_to_name_a_file_that_is_run(place: Path) -> None:
    (place / "mine.py").write_text(FILES["si.py"])
    assert run(place, *SMALL, "--set", "methods=mine.py").returncode == 0
    (place / "mine.py").write_text("raise SystemExit('it was run')\n")
    command = [sys.executable, "-m", "utils.report", str(place / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "it was run" not in done.stdout + done.stderr
    assert (place / "results" / "report" / "report.html").exists()
