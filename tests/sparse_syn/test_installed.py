"""The layers where pip puts them, in a project that has nothing else of this one."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
import torch

import sparse_syn
from models import functional, sparse
from sparse_syn.functional import kwinners, kwinners2d
from tests.sparse_syn.network import batch, network, step

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `pip install --target`, from a copy, as setuptools writes where it builds."""
    pytest.importorskip("setuptools", minversion="77", reason="pip builds with setuptools")
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "LICENSE", "docs/layers.md"):
        (clone / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    for name in ("sparse_syn", "models"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, clone / name, ignore=skip)
    words = "-m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation"
    subprocess.run(
        [sys.executable, *words.split(), "--target", str(target), str(clone)], check=True
    )
    return target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a package `models` of its own."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("MINE = True\n")
    return tmp_path


def run(source: str, folder: Path, installed: Path) -> str:
    """What a script prints in a folder, in a new process that finds what is installed."""
    (folder / "script.py").write_text(source, encoding="utf-8")
    threads = str(torch.get_num_threads())
    environ = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": threads}
    words = [sys.executable, "script.py"]
    done = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_pip_is_told(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} == {
        "sparse_syn",
        "sparse_syn-1.0.0.dist-info",
    }
    sources = {path.name for path in (ROOT / "sparse_syn").iterdir() if path.suffix}
    assert "py.typed" in sources
    assert {path.name for path in (installed / "sparse_syn").iterdir() if path.suffix} == sources
    text = (installed / "sparse_syn-1.0.0.dist-info" / "METADATA").read_text(encoding="utf-8")
    facts: Message = message_from_string(text)
    assert (facts["Name"], facts["Version"]) == ("sparse-syn", "1.0.0")
    assert (facts["License-Expression"], facts["License-File"]) == ("MIT", "LICENSE")
    assert facts["Requires-Python"] == ">=3.10"
    assert facts.get_all("Requires-Dist") == ["torch>=2.11"]
    assert str(facts.get_payload()).strip() == DOC.strip()


GOES_ON = """
import sys
import models, torch
from torch import nn
before = set(sys.modules)
import sparse_syn
new = {name.split(".")[0] for name in set(sys.modules) - before}
from sparse_syn import Flatten, KWinners, KWinners2d, SparseWeights, SparseWeights2d

assert models.MINE and sparse_syn.__file__.startswith(PLACE)
assert new <= {"torch", "sparse_syn", *sys.stdlib_module_names}, new
x, y, state = torch.load("before.pt")
model = nn.Sequential(
    SparseWeights2d(nn.Conv2d(1, 8, 3), weight_sparsity=0.5),
    KWinners2d(8, percent_on=0.25),
    Flatten(),
    SparseWeights(nn.Linear(288, 20), weight_sparsity=0.4),
    KWinners(20, percent_on=0.25),
    nn.Linear(20, 5),
)
model.load_state_dict(state)
optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
nn.functional.cross_entropy(model(x), y).backward()
optimiser.step()
torch.save(model.state_dict(), "after.pt")
"""


def test_a_state_goes_on_there(installed: Path, project: Path) -> None:
    """In a new process: the same step to the bit. Nothing but torch is imported."""
    x, y = batch()
    model = network()
    step(model, x, y)
    torch.save((x, y, model.state_dict()), project / "before.pt")
    run(GOES_ON.replace("PLACE", repr(str(installed))), project, installed)
    step(model, x, y)
    after = torch.load(project / "after.pt")
    state = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], state[name]) for name in state)


def test_the_lines_of_the_page(installed: Path, project: Path) -> None:
    """The twenty lines run, and print what is said there."""
    [code] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    [printed] = re.findall(r"```text\n(.*?)```", DOC, re.DOTALL)
    assert len(code.splitlines()) <= 20
    assert run(code, project, installed) == printed


@pytest.mark.parametrize("file", sorted((ROOT / "sparse_syn").glob("*.py")), ids=lambda f: f.name)
def test_the_folder_can_be_copied(file: Path) -> None:
    """Under any name, to any depth: nothing is imported but torch, Python, and by a dot."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level in (0, 1)
            names = [str(node.module)] if node.level == 0 else []
        for name in names:
            assert name.split(".")[0] in {"torch", *sys.stdlib_module_names}, name


def test_names_of_before_are_the_same_objects() -> None:
    assert all(getattr(sparse, name) is getattr(sparse_syn, name) for name in sparse_syn.__all__)
    assert (functional.kwinners, functional.kwinners2d) == (kwinners, kwinners2d)
