"""What makes two runs the same, and what does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exps.config import Experiment
from utils import identity

PARTS = ("run_exps.py", "benchmarks", "exps", "models", "utils")
MLP, CNN = Experiment(name="A"), Experiment(name="A", cnn=True)
COMMENT = '# another\n"""And a text that does nothing."""\n'


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the program, taken for the program."""
    for part in PARTS:
        path = identity.ROOT / part
        skip = shutil.ignore_patterns("data", "__pycache__")
        if path.is_dir():
            shutil.copytree(path, tmp_path / part, ignore=skip)
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    return tmp_path


def code(exp: Experiment = MLP) -> str:
    return identity.code_digest(identity.uses(exp))


@pytest.mark.parametrize(
    "name",
    [
        *("run_exps.py", "models/mlp.py", "models/__init__.py", "models/functional.py"),
        *("benchmarks/mnist.py", "benchmarks/seeding.py", "exps/experiment.py"),
        *("utils/engine/sparse.py", "utils/dynamic/growth.py", "utils/training.py"),
        *("utils/session.py", "utils/runtime.py"),
    ],
)
def test_a_change_of_what_makes_results_is_another_program(copy: Path, name: str) -> None:
    before, path = code(), copy / name
    source = path.read_text()
    path.write_text(source + "\nANOTHER = 1\n")
    assert code() != before
    path.write_text(source.replace("\n", "\r\n") + COMMENT.replace('"""And', '# """And'))
    assert code() == before


@pytest.mark.parametrize(
    "name",
    [
        *("benchmarks/cifar.py", "benchmarks/cifar100.py", "models/cnn.py", "exps/plan.py"),
        *(f"{part.replace('.', '/')}.py" for part in identity.APART),
        *("utils/report/answers.py", "utils/many/worker.py", "utils/live/board.py"),
    ],
)
def test_what_a_run_does_not_use_makes_no_other_program(copy: Path, name: str) -> None:
    before, path = code(), copy / name
    if path.parent.is_dir() and not path.with_suffix("").is_dir():
        with path.open("a") as file:
            file.write("ANOTHER = 1\n")
    assert code() == before


def test_each_run_uses_its_own_benchmark_and_model(copy: Path) -> None:
    cifar = Experiment(name="A", benchmark="cifar", num_batch=5)
    before = code(CNN), code(cifar)
    for path in (copy / "models/cnn.py", copy / "benchmarks/cifar.py"):
        with path.open("a") as file:
            file.write("ANOTHER = 1\n")
    assert [a != b for a, b in zip(before, (code(CNN), code(cifar)), strict=True)] == [True, True]


def test_what_code_means(copy: Path) -> None:
    """Comments, docstrings, blank lines and line breaks say nothing; whatever else does, counts."""
    path = copy / "benchmarks/seeding.py"

    def digest(source: str) -> str:
        path.write_text(source)
        return code()

    plain = digest("def f(x):\n    return x + 1\n")
    assert digest('"""Of f."""\n\ndef f(x):  # one\n    """More."""\n    return (x +\n 1)') == plain
    for other in ("x + 2", "x - 1", "x + 1.0", "x + True", "'x + 1'", "[x + 1]"):
        assert digest(f"def f(x):\n    return {other}\n") != plain
    assert digest("async def f(x):\n    return x + 1\n") != plain
    assert digest("def f(x):\n    return x + 1\nimport utils.report.page\n") != plain


def test_all_that_a_run_loads_counts_or_is_apart() -> None:
    """The imports as they are read agree with those of a process that runs."""
    program = (
        "import sys, run_exps; run_exps.main(['--name', 'Smoke', '--set', 'num_batch=1', '--set',"
        " 'train_ep=1', '--quiet', '--results-dir', sys.argv[1]]); from utils import identity\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if identity._file(name) and not identity._apart(name): print(name)"
    )
    read: set[str] = set()
    original = identity._file

    def noted(name: str) -> Path | None:
        read.add(name)
        return original(name)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        loaded = subprocess.run(
            [sys.executable, "-c", program, folder],
            cwd=identity.ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        patch.setattr(identity, "_file", noted)
        identity.code_digest(identity.uses(Experiment(name="Smoke", benchmark="cifar")))
    names = {line for line in loaded.stdout.splitlines() if not line.endswith(".pkl")}
    assert {"utils.training", "models.mlp", "benchmarks.cifar"} <= names
    assert names - read == set()


def test_keys_that_change_no_number_do_not_count() -> None:
    texts = {"lr": "0.1", "description": "a", "checkpoint_every": "60"}
    same = {"lr": "0.1", "description": "b", "checkpoint_every": "0", "data_dir": "elsewhere"}
    assert identity.fingerprint(texts) == identity.fingerprint(same)
    assert identity.fingerprint(texts) != identity.fingerprint(texts | {"lr": "0.2"})
