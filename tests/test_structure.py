"""Rules that are checked over the syntax trees: data flows one way, and one place talks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = {"benchmarks", "exps", "models", "sparse_syn", "utils", "run_exps", "tests"}
MAY_IMPORT = {
    "exps": {"exps"},
    "benchmarks": {"benchmarks", "exps"},
    "sparse_syn": {"sparse_syn"},
    "models": {"models", "sparse_syn", "exps"},
    "utils": {
        *("utils", "models", "sparse_syn", "exps", "benchmarks.stream", "benchmarks.digest"),
        *("benchmarks.own_file", "benchmarks.own_tasks", "benchmarks.picture_folder"),
    },
    "run_exps": {"benchmarks", "exps", "models", "sparse_syn", "utils"},
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


def test_one_module_alone_takes_matplotlib() -> None:
    """Loaded elsewhere, it would fail for the sake of a backend that nobody needs."""
    files = [*FILES, *(ROOT / "docs").glob("*.py")]
    lines = re.compile(r"^\s*(import|from) matplotlib\b", re.MULTILINE)
    found = [file.name for file in files if lines.search(file.read_text(encoding="utf-8"))]
    assert found == ["canvas.py"]


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


TALK = ROOT / "utils" / "system" / "talk.py"


def talks(source: str) -> set[str]:
    """What in it writes to a terminal."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in ("print", "pprint", "breakpoint", "input"):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            name = f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else node.attr
            if re.fullmatch(r"sys\.(__)?(stdout|stderr)(__)?", name) or re.fullmatch(
                r"(.*\.)?(print_\w+|StreamHandler|basicConfig)", name
            ):
                found.add(name)
        elif isinstance(node, ast.Call) and re.match(r"(os\.write|open)\([12],", ast.unparse(node)):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] in ("tqdm", "pprint")}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {n for n in names if re.match(r"tqdm|pprint|sys\.(std|__std)(out|err)", n)}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_one_place_talks(file: Path) -> None:
    found = talks(file.read_text(encoding="utf-8"))
    assert bool(found) == (file == TALK), found


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import sys\nsys.stderr.write('x')",
        "from sys import stdout",
        "def f():\n    from tqdm import tqdm",
        "import tqdm.auto",
        "import os\nos.write(2, b'x')",
        "parser.print_help()",
        "import traceback\ntraceback.print_exc()",
        "import logging\nlogging.StreamHandler()",
        "out = sys.__stdout__",
        "print_it = print",
    ],
)
def test_what_talks(source: str) -> None:
    assert talks(source)
    assert not talks("import sys\nsys.exit(1)\nos.write(handle, b'x')\nfile.write(1)")


# The rooms of utils, from the ground up: each may import those before it.
FLOORS = (
    "system",
    "optimizers",
    "results",
    "engines",
    "report",
    "methods",
    "training",
    "predict",
    "live",
    "runs",
    "many",
)


def test_utils_has_rooms_alone() -> None:
    assert {f.name for f in (ROOT / "utils").glob("*.py")} == {"__init__.py"}
    assert {f.parent.name for f in (ROOT / "utils").glob("*/__init__.py")} == set(FLOORS)


@pytest.mark.parametrize("room", FLOORS)
def test_no_arrow_runs_upwards_in_utils(room: str) -> None:
    """So there is no circle of rooms either."""
    above = FLOORS[FLOORS.index(room) + 1 :]
    for file in (ROOT / "utils" / room).rglob("*.py"):
        package = file.relative_to(ROOT).parent.parts
        rooms = {
            name.split(".")[1]
            for name in imported(file.read_text("utf-8"), package)
            if name.startswith("utils.")
        }
        assert not rooms & set(above), file.relative_to(ROOT).as_posix()
