"""What makes two runs the same, and what does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from exps.config import Experiment
from exps.plugins import KINDS
from utils.runs import identity

PARTS = ("run_exps.py", "benchmarks", "exps", "models", "sparse_syn", "utils")
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
        *("run_exps.py", "models/mlp.py", "models/__init__.py", "sparse_syn/functional.py"),
        *(
            "benchmarks/mnist.py",
            "benchmarks/seeding.py",
            "exps/experiment.py",
            "exps/definitions.py",
        ),
        *("utils/engines/winners/engine.py", "utils/methods/make.py", "utils/training/loop.py"),
        *("utils/runs/session.py", "utils/system/runtime.py", "utils/optimizers/sgd.py"),
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
        *("utils/methods/grow.py", "utils/methods/ewc.py", "utils/optimizers/adam.py"),
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


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"dynamic": "grow"}, "methods/grow.py"),
        ({"dynamic": "set"}, "methods/rewire.py"),
        ({"dynamic": "set"}, "methods/changing.py"),
        ({"context": "prototype"}, "methods/contexts.py"),
        ({"context": "prototype"}, "methods/census.py"),
        ({"old_synapse_lr": 0.5}, "methods/old_synapses.py"),
        ({"methods": ("ewc",)}, "methods/ewc.py"),
        ({"methods": ("er",)}, "methods/memory.py"),
        ({"optimizer": "adam"}, "optimizers/adam.py"),
        ({"optimizer": "adamw"}, "optimizers/adamw.py"),
    ],
)
def test_each_run_uses_its_own_methods_and_optimiser(
    copy: Path, keys: dict[str, Any], name: str
) -> None:
    exp, path = Experiment(name="A", **keys), copy / "utils" / name
    before = code(), code(exp)
    path.write_text(path.read_text() + "\nANOTHER = 1\n")
    assert (code() == before[0], code(exp) == before[1]) == (True, False)


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
        " 'train_ep=1', '--quiet', '--results-dir', sys.argv[1]])\n"
        "from utils.runs import identity\n"
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
    assert {"utils.training.loop", "models.mlp", "benchmarks.cifar"} <= names
    declare = {f"{kind.package}.{name}" for kind in KINDS for name in kind.names}
    declare.add("benchmarks.own_tasks")  # has keys that several of them declare
    assert names - read - declare == set()


def test_keys_that_change_no_number_do_not_count() -> None:
    texts = {"lr": "0.1", "description": "a", "checkpoint_every": "60"}
    same = {"lr": "0.1", "description": "b", "checkpoint_every": "0", "data_dir": "elsewhere"}
    assert identity.fingerprint(texts) == identity.fingerprint(same)
    assert identity.fingerprint(texts) != identity.fingerprint(texts | {"lr": "0.2"})
    idle = {"context_units": "7", "ewc_decay": "0.5", "mnist_mode": "perm", "optimizer": "sgd"}
    assert identity.fingerprint(texts | idle) == identity.fingerprint(texts)  # of other versions
    for key, text in (("momentum", "0.5"), ("mnist_mode", "split"), ("optimizer", "adam")):
        assert identity.fingerprint(texts | {key: text}) != identity.fingerprint(texts)
    small, large = ({"optimizer": "adamw", "adam_eps": eps} for eps in ("1e-06", "0.01"))
    assert identity.fingerprint(texts | small) != identity.fingerprint(texts | large)
    found = identity.differences({"config": texts | idle}, {"config": texts | {"lr": "0.2"}})
    assert found == ["lr: 0.1 there, 0.2 here"] or found == ["lr: missing there, 0.2 here"]
