"""The import arrows, checked over the syntax trees: data flows one way through the project."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = {"benchmarks", "exps", "models", "utils", "run_exps", "tests"}
MAY_IMPORT = {
    "exps": {"exps"},
    "benchmarks": {"benchmarks", "exps"},
    "models": {"models", "exps"},
    "utils": {"utils", "models", "benchmarks.stream", "benchmarks.digest", "exps"},
    "run_exps": {"benchmarks", "exps", "models", "utils"},
}
FILES = sorted(
    [ROOT / "run_exps.py", *(file for part in MAY_IMPORT for file in (ROOT / part).rglob("*.py"))]
)


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """The dotted names of the project that a file in this package imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PROJECT}


def forbidden(source: str, package: tuple[str, ...]) -> set[str]:
    """Those of its imports that go against the arrows."""
    allowed = MAY_IMPORT[package[0]]
    return {
        name
        for name in imported(source, package)
        if not any(name == way or name.startswith(f"{way}.") for way in allowed)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(file: Path) -> None:
    place = file.relative_to(ROOT)
    package = place.parent.parts or (place.stem,)
    assert forbidden(file.read_text(encoding="utf-8"), package) == set()


def test_every_part_is_looked_at() -> None:
    assert {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in FILES} == set(
        MAY_IMPORT
    )


@pytest.mark.parametrize(
    ("package", "source", "expected"),
    [
        (("models",), "import utils.results", {"utils.results"}),
        (("models",), "from benchmarks import stream", {"benchmarks.stream"}),
        (("models",), "from . import mlp\nimport torch", set()),
        (("utils", "engine"), "from ..results import load_results\nfrom . import x", set()),
        (("utils", "engine"), "from ...benchmarks import x", {"benchmarks.x"}),
        (("utils",), "from benchmarks.stream import Task\nfrom benchmarks import stream", set()),
        (("utils",), "from benchmarks import digest, make_stream", {"benchmarks.make_stream"}),
        (("utils",), "def f():\n    import run_exps", {"run_exps"}),
        (("exps",), "from models import make_model", {"models.make_model"}),
        (("benchmarks",), "from exps.config import Experiment\nimport tests.x", {"tests.x"}),
        (("run_exps",), "from utils import results\nimport models, exps, benchmarks.mnist", set()),
    ],
)
def test_the_check_itself(package: tuple[str, ...], source: str, expected: set[str]) -> None:
    assert forbidden(source, package) == expected
